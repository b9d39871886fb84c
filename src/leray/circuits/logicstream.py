"""LogicStream: short arguments, controls in which the rule must not fire, and a solver's answers.

An argument is a few premises about someone, in random order and among distractors, and a question:

    if wug then not dax . tom is wug . is tom dax ? no

The answer is *yes* or *no* where the premises entail it, else *unknown*. Every form of argument has
matched controls, of equally many premises of the same kinds, in which it must not fire: the
consequent is affirmed, the antecedent denied, a fact is of something else, a rule or a link is
missing. A model that only pairs words does well on one side and fails the other, so that the score
of an ability is its least accuracy, over the form and each of its controls.

Forms are written as ``A, A>B ⊢ B``: letters stand for properties or, with a chance of a half, for
their negations; ``-A`` is the other one, ``A&B>C`` and ``A|B>C`` are rules with two premises, and
``A|B`` is a fact that leaves open which. X is a property that is not in the argument.

Every example has a minimal pair: the same words but one, and another answer.

Source: propositional logic on the properties of one individual; true, false and made-up words are
held apart as in Dasgupta et al., Language models show human-like content effects on reasoning
(arXiv 2207.07051).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from leray.circuits.logic import (
    ANSWERS,
    Answer,
    Fact,
    Literal,
    Premise,
    Rule,
    answer,
    entailed,
    literals_of,
)
from leray.errors import LerayError, nearest

CONTENTS = ("nonce", "true", "false")
MIXED = ("nonce", "nonce", "true", "false")
"""Half of a mixture is of made-up words."""

MAX_DISTRACTORS = 4
NUM_QUESTIONS = 5
"""Of a line to train on, while there is room."""
NUM_WORDS = 64
"""Of a line to train on, at most."""
NAMES = ("tom", "ann", "bob", "eve", "sam", "ida", "max", "lea")
NONCE = tuple(
    a + b
    for a, b in product(
        ("wu", "da", "fe", "zo", "ki", "mo", "ra", "ju"), ("g", "x", "p", "n", "sk")
    )
)
CHAINS = (
    ("robin", "bird", "animal"),
    ("oak", "tree", "plant"),
    ("iron", "metal", "matter"),
    ("piano", "instrument", "tool"),
    ("soup", "meal", "food"),
    ("car", "vehicle", "machine"),
    ("poem", "text", "work"),
    ("nurse", "worker", "person"),
)
"""Each is the next."""
TRUE = tuple(w for chain in CHAINS for w in chain)
GRAMMAR = (
    "if", "then", "every", "is", "implies", "not", "and", "or", "holds", "of", "fails", "does",
    "hold", ".", "?",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Form:
    """A form of argument, and what must not be taken for it."""

    argument: str
    controls: dict[str, str]


FORMS = {
    "modus ponens": Form(
        "A, A>B ⊢ B",
        {
            "affirming the consequent": "B, A>B ⊢ A",
            "irrelevant fact": "X, A>B ⊢ B",
            "missing rule": "A, X>B ⊢ B",
        },
    ),
    "modus tollens": Form(
        "-B, A>B ⊢ A",
        {
            "denying the antecedent": "-A, A>B ⊢ B",
            "irrelevant fact": "-X, A>B ⊢ A",
            "missing rule": "-B, A>X ⊢ A",
        },
    ),
    "chain": Form(
        "A, A>B, B>C ⊢ C",
        {"broken chain": "A, A>B, X>C ⊢ C", "irrelevant fact": "X, A>B, B>C ⊢ C"},
    ),
    "conjunction": Form(
        "A, B, A&B>C ⊢ C",
        {"one of two": "A, X, A&B>C ⊢ C", "affirming the consequent": "A, C, A&B>C ⊢ B"},
    ),
    "disjunction": Form(
        "A, A|B>C ⊢ C",
        {"irrelevant fact": "X, A|B>C ⊢ C", "affirming the consequent": "C, A|B>C ⊢ A"},
    ),
    "disjunctive syllogism": Form(
        "A|B, -A ⊢ B",
        {"affirming a disjunct": "A|B, A ⊢ B", "irrelevant fact": "A|B, -X ⊢ B"},
    ),
}


@dataclass(frozen=True, slots=True)
class Surface:
    """Which of the ways to say a fact, a rule and a question."""

    fact: int
    rule: int
    question: int


SURFACES = tuple(Surface(*x) for x in product(range(2), range(3), range(2)))
HELD_OUT = (Surface(0, 1, 1), Surface(1, 0, 0), Surface(1, 2, 1))
"""Never trained on; each of their parts is."""


@dataclass(frozen=True, slots=True)
class Argument:
    """Premises, and a property of someone that is asked for."""

    premises: tuple[Premise, ...]
    name: str
    asked: str

    @property
    def answer(self) -> Answer:
        """By the solver."""
        return answer(self.premises, self.name, self.asked)


@dataclass(frozen=True, slots=True)
class Example:
    """An argument in words, and its minimal pair: one word differs, and the answer.

    Args:
        words: Without the answer.
    """

    words: tuple[str, ...]
    answer: Answer
    corrupted: tuple[str, ...]
    corrupted_answer: Answer


def vocabulary() -> tuple[str, ...]:
    """Every word that an example can have, answers included."""
    return (*ANSWERS, *GRAMMAR, *NAMES, *NONCE, *TRUE)


def drawn_example(
    form: str,
    control: str,
    generator: np.random.Generator,
    *,
    content: str = "nonce",
    num_distractors: int = 0,
    surfaces: Sequence[Surface] = SURFACES,
) -> Example:
    """One example with its minimal pair.

    Args:
        control: One of the form's controls; empty for the form itself.
        content: Made-up words; or words of which the rules hold in the world, or do not. Only
            made-up ones are negated at random.
        num_distractors: More premises, which change nothing; at most `MAX_DISTRACTORS`.

    Raises:
        LerayError: An unknown form, control or content, or too many distractors.
    """
    _check(form, control, content, num_distractors)
    surface = surfaces[int(generator.integers(len(surfaces)))]
    while True:
        whole, fresh = _drawn(form, control, content, num_distractors, generator)
        pair = _minimal_pair(whole, fresh, generator)
        if pair is not None:
            words, corrupted = (_words(x, surface) for x in (whole, pair))
            return Example(words, whole.answer, corrupted, pair.answer)


def drawn_words(
    form: str,
    control: str,
    generator: np.random.Generator,
    *,
    content: str = "nonce",
    num_distractors: int = 0,
    surfaces: Sequence[Surface] = SURFACES,
) -> tuple[tuple[str, ...], Answer]:
    """The words of an example and its answer, as `drawn_example`, without a pair.

    Raises:
        LerayError: As there.
    """
    _check(form, control, content, num_distractors)
    surface = surfaces[int(generator.integers(len(surfaces)))]
    argument, _ = _drawn(form, control, content, num_distractors, generator)
    return _words(argument, surface), argument.answer


def drawn_line(
    generator: np.random.Generator,
    surfaces: Sequence[Surface] = SURFACES,
    *,
    forms: Sequence[str] = tuple(FORMS),
    contents: Sequence[str] = MIXED,
    max_distractors: int = MAX_DISTRACTORS,
) -> tuple[str, ...]:
    """The words of an example of these forms and its answer, then further questions, to train on.

    Half are controls; up to ``max_distractors`` distractors. The further
    questions, of the same premises and person, ask for any of their properties, also again: that
    the answer to a question is the one before is learned early, and that words are to be found
    before with it. So a tenth of the texts do.
    """
    form = forms[int(generator.integers(len(forms)))]
    controls = ("", *FORMS[form].controls)
    argument, _ = _drawn(
        form,
        controls[int(generator.integers(2) and generator.integers(1, len(controls)))],
        contents[int(generator.integers(len(contents)))],
        int(generator.integers(max_distractors + 1)),
        generator,
    )
    surface = surfaces[int(generator.integers(len(surfaces)))]
    properties = sorted({x.word for p in argument.premises for x in literals_of(p)})
    words = [*_words(argument, surface), argument.answer]
    for asked in generator.choice(properties, NUM_QUESTIONS - 1).tolist():
        one = replace(argument, asked=asked)
        more = [*_question(one, surface).split(), one.answer]
        if len(words) + len(more) <= NUM_WORDS:
            words += more
    return tuple(words)


def _check(form: str, control: str, content: str, num_distractors: int) -> None:
    if form not in FORMS:
        raise LerayError(f"no form {form!r}; there is {', '.join(FORMS)}{nearest(form, FORMS)}")
    controls = FORMS[form].controls
    if control and control not in controls:
        raise LerayError(f"{form} has no control {control!r}; it has {', '.join(controls)}")
    if content not in CONTENTS:
        raise LerayError(f"content must be one of {', '.join(CONTENTS)}; got {content!r}")
    if not 0 <= num_distractors <= MAX_DISTRACTORS:
        raise LerayError(f"num_distractors must be 0 to {MAX_DISTRACTORS}; got {num_distractors}")


def _drawn(
    form: str, control: str, content: str, num_distractors: int, generator: np.random.Generator
) -> tuple[Argument, list[str]]:
    """An argument among distractors that do not change its answer, and words of no premise."""
    symbols = FORMS[form].controls[control] if control else FORMS[form].argument
    while True:
        bare, fresh = _argument(symbols, content, generator)
        whole = _distracted(bare, fresh, num_distractors, generator)
        if entailed(whole.premises, whole.name, whole.asked) == bare.answer:
            return whole, fresh


def _argument(
    symbols: str, content: str, generator: np.random.Generator
) -> tuple[Argument, list[str]]:
    """The argument of a form with words for its letters, and words that it does not use."""
    given, asked = symbols.split(" ⊢ ")
    letters = _words_for("ABCX", content, generator)
    used = {c for c in symbols if c in letters}
    literals = {c: Literal(letters[c], _sign(content, generator)) for c in letters}

    def literal(text: str) -> Literal:
        found = literals[text[-1]]
        return found.negation if text[0] == "-" else found

    name = str(generator.choice(NAMES))
    premises: list[Premise] = []
    for text in given.split(", "):
        body, _, head = text.partition(">")
        joined = "or" if "|" in body else "and"
        parts = tuple(literal(x) for x in body.replace("|", "&").split("&"))
        premises.append(Rule(parts, joined, literal(head)) if head else Fact(name, parts))
    pool = NONCE if content == "nonce" else TRUE
    taken = {letters[c] for c in used}
    fresh = [w for w in generator.permutation(pool).tolist() if w not in taken]
    return Argument(tuple(premises), name, letters[asked]), fresh


def _words_for(letters: str, content: str, generator: np.random.Generator) -> dict[str, str]:
    """Of true content A is B and B is C; of false content all are of different chains."""
    if content == "nonce":
        return dict(
            zip(letters, generator.choice(NONCE, len(letters), False).tolist(), strict=True)
        )
    chains = [CHAINS[i] for i in generator.choice(len(CHAINS), len(letters), False)]
    if content == "true":
        return {**dict(zip("ABC", chains[0], strict=True)), "X": str(generator.choice(chains[1]))}
    return {c: str(generator.choice(chain)) for c, chain in zip(letters, chains, strict=True)}


def _sign(content: str, generator: np.random.Generator) -> bool:
    return content != "nonce" or bool(generator.integers(2))


def _distracted(
    argument: Argument, fresh: list[str], number: int, generator: np.random.Generator
) -> Argument:
    """More premises, of words that the argument does not use or of someone else, all shuffled."""
    used = sorted({x.word for p in argument.premises for x in literals_of(p)})
    others = [n for n in NAMES if n != argument.name]
    more: list[Premise] = []
    for i in range(number):
        one, two = (Literal(w, bool(generator.integers(2))) for w in fresh[2 * i : 2 * i + 2])
        kind = generator.integers(3)
        if kind == 0:
            more.append(Fact(argument.name, (one,)))
        elif kind == 1:
            more.append(
                Fact(str(generator.choice(others)), (Literal(str(generator.choice(used))),))
            )
        else:
            more.append(Rule((one,), "and", two))
    premises = [*argument.premises, *more]
    order = generator.permutation(len(premises))
    return replace(argument, premises=tuple(premises[i] for i in order))


def _minimal_pair(
    argument: Argument, fresh: list[str], generator: np.random.Generator
) -> Argument | None:
    """The argument with one word exchanged, such that the answer is another.

    Where another exchange does, none that states the answer outright.
    """
    own = sorted({x.word for p in argument.premises for x in literals_of(p)})
    places = [(i, j) for i, p in enumerate(argument.premises) for j in range(len(literals_of(p)))]
    trials = [
        (i, _exchanged(argument.premises[i], j, w)) for i, j in places for w in (*own, fresh[-1])
    ]
    trials = [trials[int(k)] for k in generator.permutation(len(trials))]
    for i, changed in sorted(trials, key=lambda x: _states(x[1], argument.asked)):
        premises = (*argument.premises[:i], changed, *argument.premises[i + 1 :])
        repeats = len({x.word for x in literals_of(changed)}) < len(literals_of(changed))
        found = entailed(premises, argument.name, argument.asked)
        if not repeats and found not in (None, argument.answer):
            return replace(argument, premises=premises)
    return None


def _states(premise: Premise, word: str) -> bool:
    return isinstance(premise, Fact) and [x.word for x in premise.either] == [word]


def _exchanged(premise: Premise, place: int, word: str) -> Premise:
    literals = list(literals_of(premise))
    literals[place] = replace(literals[place], word=word)
    if isinstance(premise, Fact):
        return replace(premise, either=tuple(literals))
    return replace(premise, body=tuple(literals[:-1]), head=literals[-1])


def _words(argument: Argument, surface: Surface) -> tuple[str, ...]:
    text = [_said(p, surface) for p in argument.premises]
    return tuple(" . ".join([*text, _question(argument, surface)]).split())


def _question(argument: Argument, surface: Surface) -> str:
    name, asked = argument.name, argument.asked
    return f"is {name} {asked} ?" if surface.question == 0 else f"does {asked} hold of {name} ?"


def _said(premise: Premise, surface: Surface) -> str:
    if isinstance(premise, Rule):
        body = f" {premise.joined} ".join(map(_phrase, premise.body))
        head = _phrase(premise.head)
        ways = (f"if {body} then {head}", f"every {body} is {head}", f"{body} implies {head}")
        return ways[surface.rule]
    first, *others = premise.either
    if surface.fact == 0 or others:
        return f"{premise.name} is {' or '.join(map(_phrase, premise.either))}"
    return f"{first.word} {'holds' if first.holds else 'fails'} of {premise.name}"


def _phrase(literal: Literal) -> str:
    return literal.word if literal.holds else f"not {literal.word}"
