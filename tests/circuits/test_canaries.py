"""Tests of capabilities, bets on them, and the ring of updates."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from leray.circuits.canaries import Betting, Canaries, failures, limits_of, margins, margins_of
from leray.circuits.updates import Flat, Ring, moments_of, restore_moments
from leray.errors import LerayError
from leray.lm.optimizer import Muon, OptimizerConfig


class Fixed(nn.Module):
    """Puts out what it is given."""

    def forward(self, x):
        return x


def test_oracle_margins_by_hand():
    """3 − 1; among the choices 0 and 2 only, 3 − .5; at another place, 1 − 4."""
    logits = torch.tensor([[[3.0, 1.0, 0.5], [4.0, 1.0, 0.0]]])
    one = Canaries(logits, torch.tensor([0]), torch.tensor([0]))
    assert margins(Fixed(), one).tolist() == [2.0]
    few = Canaries(logits, torch.tensor([0]), torch.tensor([0]), (0, 2))
    assert margins(Fixed(), few).tolist() == [2.5]
    other = Canaries(logits, torch.tensor([1]), torch.tensor([1]))
    assert margins(Fixed(), other).tolist() == [-3.0]
    assert failures(torch.tensor([3.0, 1.0, -1.0, torch.nan]), 2.0).tolist() == [0, 0.5, 1, 1]


def test_identity_joined_texts_have_the_margins_that_they_had():
    torch.manual_seed(0)
    table = nn.Embedding(7, 7)
    short = Canaries(torch.tensor([[1, 2]]), torch.tensor([3]), torch.tensor([1]))
    long = Canaries(torch.tensor([[4, 5, 6]]), torch.tensor([0]), torch.tensor([2]))
    found = margins_of(table, [short, long])
    assert all(torch.equal(x, margins(table, c)) for x, c in zip(found, [short, long], strict=True))


def test_identity_every_set_has_its_own_choices():
    """The second set's answers are no choices of the first's, and 9 may not win there."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(6, 10, generator=generator)
    first = Canaries(logits[:3], torch.tensor([0, 1, 0]), choices=(0, 1))
    second = Canaries(logits[3:], torch.tensor([5, 7, 5]), choices=(5, 7))
    found = margins_of(Fixed(), [first, second])
    for x, c in zip(found, [first, second], strict=True):
        assert torch.equal(x, margins(Fixed(), c))
    low, high = logits[3, 5], logits[3, 7]
    assert float(found[1][0]) == pytest.approx(float(low - high))


def test_sets_of_other_shapes_are_read_one_by_one():
    model = nn.Flatten()
    one = Canaries(torch.eye(3), torch.tensor([0, 1, 2]))
    other = Canaries(torch.eye(4).view(4, 2, 2), torch.tensor([0, 1, 2, 3]))
    assert [x.tolist() for x in margins_of(model, [one, other])] == [[1.0] * 3, [1.0] * 4]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"answers": [0]}, r"3 canaries need as many answers in one row; got \[1\]"),
        ({"answers": [0, -1, 1]}, "answers of canaries must be whole numbers from 0 on"),
        ({"choices": (1,)}, r"choices must be two classes or more, none below 0; got \[1\]"),
        ({"choices": (1, 2)}, r"a canary's answer is none of the choices \[1, 2\]"),
        (
            {"answers": [0, 1, 4]},
            "the canaries of 'a' name the class 4; the model has 4, from 0 on",
        ),
        ({"choices": (0, 1, 2, 5)}, "the canaries of 'a' name the class 5"),
        ({"places": [0, 0, 0]}, r"must put out \[canaries, places, classes\]; got \[3, 4\]"),
    ],
)
def test_canaries_that_do_not_fit(given, told):
    answers = torch.tensor(given.get("answers", [0, 1, 2]))
    places = torch.tensor(given["places"]) if "places" in given else None
    with pytest.raises(LerayError, match=told):
        limits_of(Fixed(), {"a": Canaries(torch.eye(4)[:3], answers, places, given.get("choices"))})


def test_an_optimiser_that_keeps_lists_of_tensors_is_given_them_back():
    """SOAP writes into its lists: what is kept must be a copy, each time that it is given back."""
    from pytorch_optimizer.optimizer.soap import SOAP

    torch.manual_seed(0)
    layer = nn.Linear(3, 2)
    soap = SOAP(layer.parameters(), lr=0.1)

    def step():
        soap.zero_grad()
        layer(torch.randn(4, 3)).square().sum().backward()
        soap.step()

    def remembered():
        return [x.clone() for x in soap.state[layer.weight]["GG"]]

    step()
    kept, before = moments_of([soap]), remembered()
    for _ in range(2):
        step()
        assert not torch.equal(remembered()[0], before[0])
        restore_moments([soap], kept)
        assert all(torch.equal(a, b) for a, b in zip(remembered(), before, strict=True))


@pytest.mark.parametrize("bound", [0.05, 0.3])
def test_statistical_false_alarms_of_a_whole_run(bound):
    """Failures at the bound itself, of three capabilities, 60 checks: at most α = .05.

    600 runs have a standard error of .0089; the bets are made as the monitor makes them, more
    canaries where the first speak against the capability.
    """
    generator = np.random.default_rng(0)
    alarms = 0
    for _ in range(600):
        betting = Betting([bound] * 3, 0.05)
        for _ in range(60):
            betting.begin()
            for k in range(3):
                for _ in range(4):
                    if betting.read(k, (generator.random(8) < bound).astype(float)) < 0:
                        break
            if betting.broken():
                alarms += 1
                break
    assert alarms / 600 <= 0.05 + 4 * 0.0089


def test_identity_wealth_is_a_martingale_at_the_bound():
    """E after a check, averaged over the two values of one failure, is E before."""
    betting = Betting([0.2], 0.01)
    for y in (0.0, 1.0, 1.0, 0.0):
        betting.begin()
        betting.read(0, np.array([y]))
    before = float(np.exp(betting.evidence[0]))
    after = []
    for y in (0.0, 1.0):
        copy = Betting([0.2], 0.01)
        for z in (0.0, 1.0, 1.0, 0.0, y):
            copy.begin()
            copy.read(0, np.array([z]))
        after.append(float(np.exp(copy.evidence[0])))
    assert 0.8 * after[0] + 0.2 * after[1] == pytest.approx(before, rel=1e-12)


def test_a_break_is_found_at_once_however_late():
    for quiet in (0, 200):
        betting = Betting([0.15] * 4, 0.01)
        for _ in range(quiet):
            betting.begin()
            betting.read(2, np.full(16, 0.05))
        betting.begin()
        betting.read(2, np.full(16, 0.95))
        assert betting.broken() == [2]
        limit = betting.limit
        betting.restart()
        assert betting.broken() == []
        assert betting.limit == pytest.approx(limit + np.log(3))


def test_canaries_that_cannot_be():
    with pytest.raises(LerayError, match="a canary set without tests watches nothing"):
        Canaries(torch.zeros(0, 3), torch.zeros(0, dtype=torch.long))
    right = Canaries(torch.eye(3), torch.arange(3))
    assert limits_of(Fixed(), {"one": right}).start == {"one": 0.0}
    with pytest.raises(LerayError, match=r"fails its canaries at the start: 0\.000 of 'two'"):
        limits_of(Fixed(), {"one": right, "two": Canaries(torch.eye(3), torch.tensor([1, 2, 0]))})
    with pytest.raises(LerayError, match="outputs on the canaries of 'bad' are not finite"):
        limits_of(Fixed(), {"bad": Canaries(torch.full((1, 3), torch.nan), torch.tensor([0]))})
    with pytest.raises(LerayError, match="no canaries"):
        limits_of(Fixed(), {})


class Tied(nn.Module):
    """An embedding that is also the readout, and a block."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(20, 16)
        self.block = nn.Linear(16, 16)
        self.head = nn.Linear(16, 20, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, x):
        return self.head(torch.tanh(self.block(self.embedding(x))))


KINDS = {
    "sgd": lambda m: [torch.optim.SGD(m.parameters(), lr=0.1, momentum=0.9)],
    "adamw": lambda m: [torch.optim.AdamW(m.parameters(), lr=0.01)],
    "muon": lambda m: [
        Muon([{"params": [m.block.weight]}], OptimizerConfig()),
        torch.optim.AdamW([m.embedding.weight, m.block.bias], lr=0.01, fused=True),
    ],
}


def stepped(model, optimizers, seed):
    x = torch.randint(20, (8,), generator=torch.Generator().manual_seed(seed))
    for o in optimizers:
        o.zero_grad()
    nn.functional.cross_entropy(model(x), (x + 1) % 20).backward()
    for o in optimizers:
        o.step()


@pytest.mark.parametrize("kind", KINDS)
@given(num=st.integers(1, 9), size=st.integers(1, 3))
def test_identity_updates_lead_from_the_oldest_weights_to_those_now(kind, num, size):
    """Whatever the optimiser; the tied weight is there once, and the ring holds four."""
    torch.manual_seed(0)
    model = Tied()
    flat = Flat(model, ["block"])
    assert flat.size == 20 * 16 + 16 * 16 + 16
    assert flat.parts == ("embedding", "block")
    ring = Ring(flat, num_groups=4, steps_a_group=size)
    held = [flat.read()]
    optimizers = KINDS[kind](model)
    for k in range(num * size):
        stepped(model, optimizers, k)
        ring.record()
        held.append(flat.read())
    assert ring.ends == [size * k for k in range(max(0, num - 4), num + 1)]
    for i, end in enumerate(ring.ends):
        assert torch.equal(ring.weights(i), held[end])
    torch.testing.assert_close(ring.weights(0) + ring.held().diff(dim=0).sum(dim=0), flat.read())


@pytest.mark.parametrize("kind", KINDS)
def test_identity_restored_moments_give_the_same_next_step(kind):
    torch.manual_seed(0)
    model = Tied()
    flat, optimizers = Flat(model), KINDS[kind](model)
    for k in range(3):
        stepped(model, optimizers, k)
    weights, moments = flat.read(), moments_of(optimizers)
    stepped(model, optimizers, 3)
    wanted = flat.read()
    for k in range(4, 7):
        stepped(model, optimizers, k)
    flat.write(weights)
    restore_moments(optimizers, moments)
    stepped(model, optimizers, 3)
    assert torch.equal(flat.read(), wanted)


def test_a_module_that_does_not_exist():
    with pytest.raises(LerayError, match=r"no module 'blok' among 4.*'block'"):
        Flat(Tied(), ["blok"])


def test_what_the_ring_takes():
    """Five vectors of 592 weights of four bytes, and with Adam twice the weights at each check."""
    model = Tied()
    flat, optimizers = Flat(model), KINDS["adamw"](model)
    ring = Ring(flat, num_groups=4)
    assert ring.num_bytes == 5 * 592 * 4
    stepped(model, optimizers, 0)
    ring.keep(optimizers)
    steps = 3 * 4  # Adam counts the steps of each of three weights
    assert ring.num_bytes == 5 * 592 * 4 + 2 * 592 * 4 + steps
