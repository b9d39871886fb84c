"""Arguments whose answer a solver gives."""

from __future__ import annotations

import tomllib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sympy import And, Implies, Not, Or, Symbol
from sympy.logic.inference import satisfiable

from leray.circuits.logic import ANSWERS, Fact, Literal, Rule, answer
from leray.circuits.logicstream import (
    CONTENTS,
    FORMS,
    HELD_OUT,
    MAX_DISTRACTORS,
    NUM_QUESTIONS,
    NUM_WORDS,
    SURFACES,
    Surface,
    drawn_example,
    drawn_line,
    drawn_words,
    vocabulary,
)
from leray.errors import LerayError

KINDS = [(f, c) for f, form in FORMS.items() for c in ("", *form.controls)]

literals = st.tuples(st.sampled_from("pqrs"), st.booleans())
facts = st.tuples(st.sampled_from(["tom", "ann"]), st.lists(literals, min_size=1, max_size=2))
rules = st.tuples(
    st.lists(literals, min_size=1, max_size=2), st.sampled_from(["and", "or"]), literals
)


def premise_of(raw):
    if len(raw) == 2:
        return Fact(raw[0], tuple(Literal(*x) for x in raw[1]))
    return Rule(tuple(Literal(*x) for x in raw[0]), raw[1], Literal(*raw[2]))


def formula(premise, name):
    """Of one individual."""

    def term(x):
        symbol = Symbol(x.word)
        return symbol if x.holds else Not(symbol)

    if isinstance(premise, Fact):
        return Or(*map(term, premise.either)) if premise.name == name else True
    joined = And if premise.joined == "and" else Or
    return Implies(joined(*map(term, premise.body)), term(premise.head))


@given(st.lists(facts | rules, max_size=5), st.sampled_from("pqrs"))
def test_oracle_the_solver_agrees_with_sympy(raw, asked):
    """Entailment by satisfiability of the premises and the contrary."""
    premises = [premise_of(x) for x in raw]
    known = And(*(formula(p, "tom") for p in premises))
    if not satisfiable(known):
        with pytest.raises(LerayError, match="contradict"):
            answer(premises, "tom", asked)
        return
    yes = not satisfiable(And(known, Not(Symbol(asked))))
    no = not satisfiable(And(known, Symbol(asked)))
    assert answer(premises, "tom", asked) == ("yes" if yes else "no" if no else "unknown")


@given(
    st.sampled_from(KINDS),
    st.sampled_from(CONTENTS),
    st.integers(0, MAX_DISTRACTORS),
    st.integers(0),
)
def test_identity_rules_fire_in_arguments_and_in_no_control(kind, content, num_distractors, seed):
    """One word of the pair differs, its answer too, and all words are of the vocabulary."""
    form, control = kind
    generator = np.random.default_rng(seed)
    found = drawn_example(
        form, control, generator, content=content, num_distractors=num_distractors
    )
    assert (found.answer == "unknown") == bool(control)
    assert found.corrupted_answer != found.answer
    assert sum(a != b for a, b in zip(found.words, found.corrupted, strict=True)) == 1
    assert {*found.words, *found.corrupted, found.answer} <= set(vocabulary())
    assert found.words.count(".") == len(FORMS[form].argument.split(",")) + num_distractors


@pytest.mark.parametrize("form", FORMS)
def test_statistical_yes_and_no_are_as_frequent(form):
    """Within 4 standard errors at n = 400: no form is solved by its shape alone."""
    generator = np.random.default_rng(0)
    counts = Counter(drawn_words(form, "", generator)[1] for _ in range(400))
    assert abs(counts["yes"] / 400 - 0.5) < 4 * 0.5 / 20


def test_forms_and_controls_have_premises_of_the_same_kinds():
    for form in FORMS.values():
        shapes = {
            tuple(sorted(p.strip("-").translate(str.maketrans("BCX", "AAA")) for p in text))
            for text in (
                x.split(" ⊢ ")[0].split(", ") for x in (form.argument, *form.controls.values())
            )
        }
        assert len(shapes) == 1


def test_held_out_surfaces_are_made_of_parts_that_are_trained():
    trained = set(SURFACES) - set(HELD_OUT)
    for surface in HELD_OUT:
        assert any(x.fact == surface.fact for x in trained)
        assert any(x.rule == surface.rule for x in trained)
        assert any(x.question == surface.question for x in trained)


def test_equal_generators_draw_equal_examples():
    one, other = (drawn_example("chain", "", np.random.default_rng(3)) for _ in range(2))
    assert one == other


@pytest.mark.parametrize(
    ("form", "control", "more", "told"),
    [
        ("modus ponnens", "", {}, "no form 'modus ponnens'.*modus ponens"),
        ("chain", "missing rule", {}, "chain has no control 'missing rule'; it has broken chain"),
        ("chain", "", {"content": "real"}, "content must be one of nonce, true, false"),
        ("chain", "", {"num_distractors": 5}, "num_distractors must be 0 to 4; got 5"),
    ],
)
def test_errors_say_what_there_is(form, control, more, told):
    with pytest.raises(LerayError, match=told):
        drawn_example(form, control, np.random.default_rng(0), **more)


def test_the_shipped_reasoner_reads_every_example_whole():
    """Before the last answer of the longest lines there is a separator."""
    configuration = Path(__file__).parents[2] / "configs" / "reasoner.toml"
    context = tomllib.loads(configuration.read_text())["data"]["context"]
    generator = np.random.default_rng(0)
    longest = max(len(drawn_line(generator)) for _ in range(2000))
    assert longest == NUM_WORDS == context


def read(premise):
    """Of its words, said in the first way."""

    def literals(text):
        return tuple(
            Literal(x.removeprefix("not "), not x.startswith("not "))
            for x in text.replace(" and ", " or ").split(" or ")
        )

    if premise.startswith("if "):
        body, head = premise.removeprefix("if ").split(" then ")
        return Rule(literals(body), "or" if " or " in body else "and", *literals(head))
    name, either = premise.split(" is ")
    return Fact(name, literals(either))


def test_oracle_every_question_of_a_line_has_the_solvers_answer():
    """On the premises as read back from the words."""
    generator = np.random.default_rng(0)
    counts = Counter()
    for _ in range(200):
        *premises, questions = " ".join(drawn_line(generator, [Surface(0, 0, 0)])).split(" . ")
        asked = questions.split(" is ")
        asked = [asked[0].removeprefix("is "), *asked[1:]]
        known = [read(p) for p in premises]
        for one in asked:
            name, word, _, told = one.split()
            assert told == answer(known, name, word)
            counts[told] += 1
        assert len(asked) <= NUM_QUESTIONS
    assert set(counts) == set(ANSWERS)
    assert sum(counts.values()) > 600
