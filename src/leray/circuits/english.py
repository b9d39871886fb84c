"""Tasks in English for models that were trained on it, each with controls where it must not fire.

A prompt ends before its answer, one token. A positive prompt has a minimal pair of the same length:
changed in one word, or in what its examples show, it asks for another answer. A control looks like
a positive prompt, and the answer of the behaviour is wrong there. Positives count where the answer
is the first of all tokens, controls where the behaviour's answer is not. Where a task is ``among``
its answers only these are compared.

A word is used where each of its forms is one token, so that all prompts of a kind have one length.

Source: Wang et al. (arXiv 2211.00593) for indirect objects; Linzen et al. (arXiv 1611.01368) for
agreement; Olsson et al. (arXiv 2209.11895) for induction.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from leray.errors import LerayError, nearest

Words = Mapping[str, Sequence[str]]
"""By the name of a pool, the words that may be used."""

NUM_SHOWN = 4
"""Examples that stand before the question where a task is shown."""


class Prompt(NamedTuple):
    """A text, and the token that the behaviour puts behind it."""

    text: str
    answer: str


class Pool(NamedTuple):
    """Words, and for each its forms that must be one token."""

    words: Sequence[str]
    forms: Callable[[str], Sequence[str]]


@dataclass(frozen=True, kw_only=True, slots=True)
class EnglishTask:
    """What a model may be able to do.

    Args:
        says: In one line.
        pools: Where its words come from.
        pair: A positive prompt and its minimal pair, with other answers.
        controls: By name, prompts whose ``answer`` must not come.
        answers: All that may be the answer.
        among: Whether only the answers are compared.
    """

    says: str
    pools: Mapping[str, Pool]
    pair: Callable[[Words, np.random.Generator], tuple[Prompt, Prompt]]
    controls: Mapping[str, Callable[[Words, np.random.Generator], Prompt]]
    answers: Callable[[Words], Sequence[str]]
    among: bool = False

    def words(self, is_token: Callable[[str], bool]) -> Words:
        """Of every pool the words all of whose forms are one token.

        Raises:
            LerayError: Fewer than a prompt needs.
        """
        found = {}
        for name, pool in self.pools.items():
            found[name] = [w for w in pool.words if all(map(is_token, pool.forms(w)))]
            if len(found[name]) < NUM_SHOWN + 3:
                raise LerayError(
                    f"this model's tokenizer has one token for {len(found[name])} of "
                    f"{len(pool.words)} {name}; {NUM_SHOWN + 3} are needed"
                )
        return found

    def prompts(
        self, control: str, number: int, words: Words, generator: np.random.Generator
    ) -> list[Prompt]:
        """Prompts of a control, or positive ones under ``""``."""
        if not control:
            return [self.pair(words, generator)[0] for _ in range(number)]
        return [self.controls[control](words, generator) for _ in range(number)]


def _pool(words: str, forms: Callable[[str], Sequence[str]]) -> Pool:
    return Pool(words.split(), forms)


NAMES = _pool(
    "Tom Mary John Anna Peter Susan Mark Sarah David Laura James Emma Paul Alice Robert Jane",
    lambda w: (w, f" {w}"),
)
ADJECTIVES = _pool(
    "happy tired angry hungry rich brave tall calm kind sick young strong quiet cold busy "
    "proud sad poor lucky honest",
    lambda w: (f" {w}",),
)
NOUNS = _pool(
    "cat dog tree car book girl boy king door star ship bird hand song tool room game farm "
    "road lamp",
    lambda w: (w, f" {w}", f" {w}s", f" {w.capitalize()}"),
)
VERBS = _pool(
    "walk talk jump open help play work call ask wait pull push clean show turn follow enter "
    "cross rain",
    lambda w: (w, f" {w}", f" {w}ed"),
)
THINGS = _pool(
    "apple river stone table cloud horse glass paper bread chair knife garden window bottle "
    "forest island candle mirror pencil basket hammer ladder pillow ticket rabbit orange "
    "silver copper winter engine bridge castle flower kitchen market village doctor farmer "
    "letter",
    lambda w: (f" {w}",),
)
CAPITALS = {
    "France": "Paris", "Germany": "Berlin", "Italy": "Rome", "Spain": "Madrid", "Japan": "Tokyo",
    "China": "Beijing", "Russia": "Moscow", "Egypt": "Cairo", "England": "London",
    "Greece": "Athens", "Austria": "Vienna", "Portugal": "Lisbon", "Cuba": "Havana",
    "Ireland": "Dublin", "Poland": "Warsaw", "Sweden": "Stockholm", "Iran": "Tehran",
    "Norway": "Oslo",
}  # fmt: skip
NATIONALITIES = {
    "France": "French", "Germany": "German", "Italy": "Italian", "Spain": "Spanish",
    "Japan": "Japanese", "China": "Chinese", "Russia": "Russian", "England": "English",
    "Greece": "Greek", "Poland": "Polish", "Turkey": "Turkish", "Portugal": "Portuguese",
    "Sweden": "Swedish", "India": "Indian", "Canada": "Canadian",
}  # fmt: skip
COUNTRIES = Pool(list(CAPITALS), lambda w: (w, f" {w}", f" {CAPITALS[w]}"))
DIGITS = Pool([str(i) for i in range(1, 10)], lambda w: (w,))
DAYS = _pool(
    "Monday Tuesday Wednesday Thursday Friday Saturday Sunday",
    lambda w: (w,),
)


def _drawn(words: Sequence[str], number: int, generator: np.random.Generator) -> list[str]:
    return [words[int(i)] for i in generator.choice(len(words), number, replace=False)]


def _shown(words: Sequence[str], show: Callable[[str], str]) -> str:
    """Each word but the last beside what it becomes, then the last: ``"\\ncat: cats\\ndog:"``."""
    *before, last = words
    return "".join(f"\n{w}: {show(w)}" for w in before) + f"\n{last}:"


def _same(word: str) -> str:
    return word


def _shown_task(
    says: str, pool: str, words: Pool, become: Callable[[str], str], *, copied: bool = False
) -> EnglishTask:
    """Examples show what becomes of a word; the control shows that words stay as they are.

    The pair of a task shows the control's examples; with ``copied`` the task is to let words stay,
    its control shows what else becomes of them, and its pair asks for another word.
    """
    rule, other = (_same, become) if copied else (become, _same)

    def pair(known: Words, generator: np.random.Generator) -> tuple[Prompt, Prompt]:
        *drawn, instead = _drawn(known[pool], NUM_SHOWN + 2, generator)
        clean = Prompt(_shown(drawn, rule), f" {rule(drawn[-1])}")
        if copied:
            return clean, Prompt(_shown([*drawn[:-1], instead], rule), f" {rule(instead)}")
        return clean, Prompt(_shown(drawn, other), f" {other(drawn[-1])}")

    def control(known: Words, generator: np.random.Generator) -> Prompt:
        drawn = _drawn(known[pool], NUM_SHOWN + 1, generator)
        return Prompt(_shown(drawn, other), f" {rule(drawn[-1])}")

    def answers(known: Words) -> Sequence[str]:
        return [f" {f(w)}" for f in (_same, become) for w in known[pool]]

    return EnglishTask(
        says=says,
        pools={pool: words},
        pair=pair,
        controls={"another rule" if copied else "copying shown": control},
        answers=answers,
    )


def _giving(words: Words, generator: np.random.Generator) -> tuple[Prompt, Prompt]:
    pair = _drawn(words["names"], 2, generator)
    return (_at_the_store(pair, 1, "gave a drink to"), _at_the_store(pair, 0, "gave a drink to"))


def _at_the_store(names: Sequence[str], again: int, does: str) -> Prompt:
    first, second = names
    text = f"When {first} and {second} went to the store, {names[again]} {does}"
    return Prompt(text, f" {names[1 - again]}")


def _not_giving(does: str) -> Callable[[Words, np.random.Generator], Prompt]:
    def control(words: Words, generator: np.random.Generator) -> Prompt:
        names = _drawn(words["names"], 2, generator)
        return _at_the_store(names, int(generator.integers(2)), does)

    return control


def _syllogism(kind: str) -> Callable[[Words, np.random.Generator], Prompt]:
    """If n is a, then n is b. n is … Therefore, n is"""

    def prompt(words: Words, generator: np.random.Generator) -> Prompt:
        name = _drawn(words["names"], 1, generator)[0]
        a, b, c = _drawn(words["adjectives"], 3, generator)
        fact = {"": a, "consequent": b, "antecedent": f"not {a}", "irrelevant": c}[kind]
        return _therefore(name, a, b, fact, a if kind == "consequent" else b)

    return prompt


def _therefore(name: str, a: str, b: str, fact: str, answer: str) -> Prompt:
    text = f"If {name} is {a}, then {name} is {b}. {name} is {fact}. Therefore, {name} is"
    return Prompt(text, f" {answer}")


def _modus_ponens(words: Words, generator: np.random.Generator) -> tuple[Prompt, Prompt]:
    """The pair has another consequent."""
    name = _drawn(words["names"], 1, generator)[0]
    a, b, c = _drawn(words["adjectives"], 3, generator)
    return _therefore(name, a, b, a, b), _therefore(name, a, c, a, c)


def _agreeing(conflict: bool) -> Callable[[Words, np.random.Generator], tuple[Prompt, Prompt]]:
    """A noun, then another of the same number, or of the other where they conflict.

    The answer follows the last noun: right without a conflict, what must not come with one.
    """

    def pair(words: Words, generator: np.random.Generator) -> tuple[Prompt, Prompt]:
        first, second = _drawn(words["nouns"], 2, generator)
        many = int(generator.integers(2))

        def prompt(many: int) -> Prompt:
            last = many ^ conflict
            text = f"The {first}{'s' * many} near the {second}{'s' * last}"
            return Prompt(text, (" is", " are")[last])

        return prompt(many), prompt(1 - many)

    return pair


def _repeated(
    cue: bool,
) -> Callable[[Words, np.random.Generator], tuple[Prompt, Prompt]]:
    """Six words, then one of them again, after which the next one follows; or a new word."""

    def pair(words: Words, generator: np.random.Generator) -> tuple[Prompt, Prompt]:
        *drawn, new = _drawn(words["things"], 7, generator)
        first, second = (
            Prompt(f" {' '.join([*drawn, drawn[i] if cue else new])}", f" {drawn[i + 1]}")
            for i in generator.choice(5, 2, replace=False)
        )
        return first, second

    return pair


def _counting_task(
    says: str, name: str, pool: Pool, layout: tuple[str, str, str], *, around: bool
) -> EnglishTask:
    """Four in a row, then the next one; the pair begins elsewhere, the control is no row.

    Args:
        layout: What stands before the four, between them and after them.
        around: Whether the first follows the last.
    """
    before, between, after = layout
    num = len(pool.words)

    def row(order: Words, start: int) -> Prompt:
        *shown, answer = (order[name][(start + k) % num] for k in range(5))
        return Prompt(before + between.join(shown) + after, answer)

    def pair(order: Words, generator: np.random.Generator) -> tuple[Prompt, Prompt]:
        starts = num if around else num - 4
        first, second = generator.choice(starts, 2, replace=False).tolist()
        return row(order, first), row(order, second)

    def control(order: Words, generator: np.random.Generator) -> Prompt:
        last = int(generator.integers(num if around else num - 1))
        taken = (last - 1) % num, last, (last + 1) % num
        others = [w for k, w in enumerate(order[name]) if k not in taken]
        shown = [*_drawn(others, 3, generator), order[name][last]]
        return Prompt(before + between.join(shown) + after, order[name][taken[2]])

    return EnglishTask(
        says=says,
        pools={name: pool},
        pair=pair,
        controls={"out of order": control},
        answers=lambda order: order[name],
    )


def _first_of(
    pair: Callable[[Words, np.random.Generator], tuple[Prompt, Prompt]],
) -> Callable[[Words, np.random.Generator], Prompt]:
    return lambda words, generator: pair(words, generator)[0]


TASKS: dict[str, EnglishTask] = {
    "plural": _shown_task("cat: cats, shown on four nouns", "nouns", NOUNS, "{}s".format),
    "past tense": _shown_task("walk: walked, shown on four verbs", "verbs", VERBS, "{}ed".format),
    "capital letter": _shown_task(
        "cat: Cat, shown on four nouns", "nouns", NOUNS, str.capitalize
    ),
    "nationality": _shown_task(
        "France: French, shown on four countries", "countries",
        Pool(list(NATIONALITIES), lambda w: (w, f" {w}", f" {NATIONALITIES[w]}")),
        NATIONALITIES.__getitem__,
    ),
    "capital city": _shown_task(
        "France: Paris, shown on four countries", "countries", COUNTRIES, CAPITALS.__getitem__
    ),
    "copying": _shown_task(
        "cat: cat, shown on four nouns", "nouns", NOUNS, "{}s".format, copied=True
    ),
    "indirect object": EnglishTask(
        says="When Tom and Mary went to the store, Mary gave a drink to Tom",
        pools={"names": NAMES},
        pair=_giving,
        controls={"no one named": _not_giving("drank a bottle of"), "no gift": _not_giving("was")},
        answers=lambda words: [f" {w}" for w in words["names"]],
    ),
    "induction": EnglishTask(
        says="after a word that came before, what followed it",
        pools={"things": THINGS},
        pair=_repeated(cue=True),
        controls={"a new word": _first_of(_repeated(cue=False))},
        answers=lambda words: [f" {w}" for w in words["things"]],
    ),
    "agreement": EnglishTask(
        says="The keys near the cars are, of is and are",
        pools={"nouns": NOUNS},
        pair=_agreeing(conflict=False),
        controls={"another number between": _first_of(_agreeing(conflict=True))},
        answers=lambda words: [" is", " are"],  # noqa: ARG005
        among=True,
    ),
    "next digit": _counting_task(
        "3, 4, 5, 6, 7", "digits", DIGITS, ("", ", ", ", "), around=False
    ),
    "next day": _counting_task(
        "Monday and the next three, one a line, then Friday", "days", DAYS,
        ("\n", "\n", "\n"), around=True,
    ),
    "modus ponens": EnglishTask(
        says="If Tom is brave, then Tom is calm. Tom is brave. Therefore, Tom is calm",
        pools={"names": NAMES, "adjectives": ADJECTIVES},
        pair=_modus_ponens,
        controls={
            "the consequent affirmed": _syllogism("consequent"),
            "the antecedent denied": _syllogism("antecedent"),
            "an irrelevant fact": _syllogism("irrelevant"),
        },
        answers=lambda words: [f" {w}" for w in words["adjectives"]],
    ),
}  # fmt: skip
"""By name."""


def task_named(name: str | None) -> EnglishTask:
    """A task.

    Raises:
        LerayError: There is none of this name.
    """
    if name not in TASKS:
        raise LerayError(
            f"task must be one of {', '.join(TASKS)}; got {name!r}{nearest(name or '', TASKS)}"
        )
    return TASKS[name]
