"""Bridges: what needs are, what chance gives, and whether planted ones are found."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from leray.circuits import bridged_models
from leray.circuits.bridged import Planting, drawn_owners, lost_by_unit, planted
from leray.circuits.bridges import dependence, find_bridges, lost_without, needs_of, size_strata
from leray.circuits.importance import fisher
from leray.errors import LerayError

SHARED = ((0, 1), (1, 2))


def perceptron(seed, into=4, hidden=5, answers=6):
    generator = torch.Generator().manual_seed(seed)
    model = nn.Sequential(nn.Linear(into, hidden), nn.ReLU(), nn.Linear(hidden, answers)).double()
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=generator))
    return model, torch.randn(7, into, generator=generator, dtype=torch.float64)


def halves(model, x):
    """Two capabilities: the first answers and the others."""
    return [lambda i=i: model(x).chunk(2, dim=-1)[i] for i in range(2)]


def test_oracle_needs_are_what_removal_costs_where_weights_are_small():
    """A linear map of weights of 1e-3: each weight, row and column removed, to 1%."""
    generator = torch.Generator().manual_seed(0)
    model = nn.Linear(4, 3, bias=False).double()
    with torch.no_grad():
        model.weight.copy_(1e-3 * torch.randn(3, 4, generator=generator))
    x = torch.randn(50, 4, generator=generator, dtype=torch.float64) * 10
    x = x - x.mean(dim=0)

    def cost(*at):
        removed = torch.zeros(3, 4, dtype=torch.bool)
        removed[at] = True
        return lost_without(model, [lambda: model(x)], removed.flatten())[0]

    before = model.weight.clone()
    every = slice(None)
    oracle = torch.zeros(3, 4, dtype=torch.float64)
    for i, j in product(range(3), range(4)):
        least = min(cost(i, every), cost(every, j))
        oracle[i, j] = (min(cost(i, j), least) * least**2) ** (1 / 3)
    torch.testing.assert_close(
        needs_of(model, [lambda: model(x)])[0], oracle.flatten(), rtol=0.01, atol=0
    )
    assert torch.equal(model.weight, before)  # what was removed is put back


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.floats(0.1, 10), st.integers(1, 3), st.floats(-5, 5))
def test_identity_needs_do_not_feel_units_of_measure(seed, c, times, shift):
    """A hidden unit rescaled, examples repeated, a constant added to all answers: the same needs.

    Then hidden units in another order: the same needs in that order.
    """
    model, x = perceptron(seed)
    own = needs_of(model, halves(model, x))
    up, down = model[0], model[2]
    assert isinstance(up, nn.Linear)
    assert isinstance(down, nn.Linear)
    with torch.no_grad():
        up.weight[1] *= c
        up.bias[1] *= c
        down.weight[:, 1] /= c
        again = x.repeat(times, 1)
    asked = [lambda f=f: f() + shift for f in halves(model, again)]
    torch.testing.assert_close(needs_of(model, asked), own, rtol=1e-6, atol=1e-12)
    order = torch.randperm(5, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        for p in (up.weight, up.bias):
            p.copy_(p[order])
        down.weight.copy_(down.weight[:, order])
    moved = needs_of(model, halves(model, x))
    split = [20, 5, 30, 6]
    w0, b0, w1, b1 = own.split(split, dim=1)
    expected = [w0.view(2, 5, 4)[:, order].flatten(1), b0[:, order]]
    expected += [w1.view(2, 6, 5)[:, :, order].flatten(1), b1]
    torch.testing.assert_close(moved, torch.cat(expected, dim=1), rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("several", [2, 3])
def test_oracle_chances_are_those_of_all_ways_to_place_needs(several):
    """Strata of four weights, three capabilities, ties among the needs: 4³ equally likely ways."""
    generator = torch.Generator().manual_seed(several)
    needs = torch.randint(5, (3, 8), generator=generator).double()
    strata = torch.tensor([0, 1, 0, 1, 0, 1, 1, 0])
    found = find_bridges(needs, strata, several)
    for stratum in (0, 1):
        at = (strata == stratum).nonzero()[:, 0]
        ways = torch.tensor([
            sorted(float(needs[j, at[i]]) for j, i in enumerate(way))[-several]
            for way in product(range(4), repeat=3)
        ])  # fmt: skip
        assert found.expected[at].tolist() == pytest.approx([float(ways.mean())] * 4)
        for i in at.tolist():
            own = sorted(needs[:, i].tolist())[-several]
            assert float(found.statistic[i]) == own
            assert float(found.p_value[i]) == pytest.approx(float((ways >= own).double().mean()))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.floats(1e-3, 1e3), st.integers(2, 4))
def test_identity_bridges_follow_the_order_of_weights_and_feel_no_order_of_capabilities(
    seed, c, several
):
    """And needs times c: scores times c, the same p-values."""
    generator = torch.Generator().manual_seed(seed)
    needs = torch.rand(4, 60, generator=generator, dtype=torch.float64) ** 4
    strata = torch.randint(3, (60,), generator=generator)
    found = find_bridges(needs, strata, several)
    rows, columns = (torch.randperm(n, generator=generator) for n in (4, 60))
    again = find_bridges(c * needs[rows][:, columns], strata[columns], several)
    torch.testing.assert_close(again.score, c * found.score[columns])
    torch.testing.assert_close(again.p_value, found.p_value[columns])
    torch.testing.assert_close(again.q_value, found.q_value[columns])


def test_statistical_where_nothing_is_shared_a_twentieth_has_p_below_a_twentieth():
    """Within 4 standard errors at n = 4,000; and of 20 shared by two of four, q finds all."""
    generator = torch.Generator().manual_seed(0)
    needs = torch.rand(4, 4000, generator=generator)
    strata = torch.arange(4000) % 4
    rate = float((find_bridges(needs, strata).p_value <= 0.05).double().mean())
    assert abs(rate - 0.05) < 4 * (0.05 * 0.95 / 4000) ** 0.5
    for j in range(4):  # five that only j needs, and twenty shared with the next capability
        needs[j, 1000 + 5 * j : 1005 + 5 * j] += 10
        needs[j, 10 * j : 10 * j + 10] += 10
        needs[j, 10 * ((j + 1) % 4) : 10 * ((j + 1) % 4) + 10] += 10
    called = find_bridges(needs, torch.zeros(4000, dtype=torch.long)).q_value <= 0.05
    assert bool(called[:40].all())
    assert int(called[40:].sum()) <= 4


def test_statistical_what_sizes_predict_is_no_bridge():
    """All capabilities need large weights: within strata a twentieth has p ≤ .05, and no more.

    Within 4 standard errors at n = 4,000; by one stratum of all sizes, twice as many.
    """
    model = nn.Linear(100, 40, bias=False)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        model.weight.copy_(0.2 + 0.8 * torch.rand(40, 100, generator=generator))
    size = model.weight.detach().flatten().square()
    needs = size * torch.rand(3, 4000, generator=generator)
    apart = find_bridges(needs, size_strata(model, 100))
    together = find_bridges(needs, torch.zeros(4000, dtype=torch.long))
    assert float((together.p_value <= 0.05).double().mean()) > 0.1
    error = (0.05 * 0.95 / 4000) ** 0.5
    assert abs(float((apart.p_value <= 0.05).double().mean()) - 0.05) < 4 * error
    assert abs(float(apart.score.sum())) < 0.05 * float(apart.statistic.sum())
    assert float(together.score.sum()) > 0.1 * float(together.statistic.sum())


def test_identity_strata_are_of_one_tensor_and_ordered_by_size():
    model, _ = perceptron(0)
    strata = size_strata(model, 10)
    sizes = torch.cat([p.detach().abs().flatten() for p in model.parameters()])
    pieces = zip(strata.split([20, 5, 30, 6]), sizes.split([20, 5, 30, 6]), strict=True)
    last = -1
    for numbers, w in pieces:
        assert int(numbers.min()) == last + 1
        assert (numbers[w.argsort()].diff() >= 0).all()
        last = int(numbers.max())
    assert strata[:20].bincount().tolist() == [10, 10]


@pytest.mark.parametrize("kind", ["layers", "stream", "heads"])
def test_identity_without_noise_a_capability_needs_none_but_its_own_weights(kind):
    """All others at 0: the same logits, though the model was turned and its units rescaled."""
    generator = torch.Generator().manual_seed(0)
    planting = Planting(shared=SHARED, num_capabilities=3, noise=0.0, num_steps=20)
    wiring = getattr(bridged_models, kind)(planting, generator)
    model = planted(wiring, planting, generator)
    before = [ask() for ask in model.answers]
    start = {n: p.detach().clone() for n, p in model.model.named_parameters()}
    for i, own in enumerate(model.owners):
        with torch.no_grad():
            pieces = own.split([p.numel() for p in start.values()])
            for (n, p), piece in zip(start.items(), pieces, strict=True):
                model.model.get_parameter(n).copy_(p * piece.view_as(p))
        torch.testing.assert_close(model.answers[i](), before[i], rtol=1e-4, atol=1e-4)
        assert not any(
            torch.allclose(model.answers[j](), before[j], atol=1e-2) for j in range(3) if j != i
        )


@pytest.fixture(scope="module")
def found():
    """A hard model of layers, and its needs."""
    generator = torch.Generator().manual_seed(11)
    planting = Planting(shared=drawn_owners(4, 6, generator))
    model = planted(bridged_models.layers(planting, generator), planting, generator)
    return model, needs_of(model.model, model.answers)


def test_planted_bridges_are_needed_by_two_and_other_units_by_one_at_most(found):
    model, _ = found
    owners, lost = lost_by_unit(model)
    second = lost.topk(2, dim=1).values[:, 1]
    shared = owners.sum(dim=1) >= 2
    assert int(shared.sum()) == 4
    assert float(second[shared].min()) > 0.05 > float(second[~shared].max())
    assert min(model.accuracies) > 0.6  # four answers


def test_planted_bridges_are_found_three_times_as_precisely_as_by_fisher_information(found):
    model, needs = found
    bridges = find_bridges(needs, size_strata(model.model))
    information = 0
    for i in range(6):

        def logits(x, i=i):
            return model.model(x[None]).chunk(6, dim=-1)[i]

        own = fisher(model.model, list(model.inputs), logits, torch.Generator().manual_seed(0))
        information = information + torch.cat([x.flatten() for x in own.values()])

    def precision(scores):
        top = scores.argsort(descending=True)[: len(scores) // 100]
        return float(model.truth[top].double().mean())

    assert precision(bridges.score) > max(0.6, 3 * precision(information))


def test_the_map_shows_who_shares_a_bridge(found):
    """Most is lost of a capability itself and of those that share; and by chance much less."""
    model, needs = found
    strata = size_strata(model.model)
    ask = dependence(
        model.model, model.answers, needs, strata, torch.Generator().manual_seed(0), num_draws=5
    )
    shared = model.owners[:, model.truth].float()
    together = shared @ shared.mT > 0
    others = ~torch.eye(6, dtype=torch.bool)
    assert float(ask.beyond.diagonal().min()) > 0.2
    assert float(ask.beyond[together & others].mean()) > 3 * abs(
        float(ask.beyond[~together].mean())
    )
    alone = dependence(
        model.model, model.answers, needs, torch.arange(needs.shape[1]),
        torch.Generator().manual_seed(0), num_draws=2,
    )  # fmt: skip
    torch.testing.assert_close(alone.by_chance, alone.lost)  # strata of one leave no choice
    assert float(alone.deviation.max()) == 0


def test_what_cannot_be_asked():
    model, x = perceptron(0)
    answers = halves(model, x)
    strata = size_strata(model)
    needs = torch.rand(2, 61)
    asked = {
        "none came": lambda: needs_of(model, []),
        r"capability 0: logits must be finite and \[examples, answers\]; got shape \[7\]": (
            lambda: needs_of(model, [lambda: model(x)[:, 0]])
        ),
        "capability 1: its answers do not depend on its 7 examples": (
            lambda: needs_of(model, [answers[0], lambda: model(x)[:1].expand(7, -1)])
        ),
        "several must be 2 to 2, the number of capabilities; got 3": (
            lambda: find_bridges(needs, strata, 3)
        ),
        r"strata must be \[61\]": lambda: find_bridges(needs, strata[:5]),
        "finite and 0 or more": lambda: find_bridges(-needs, strata),
        "a stratum has 2 weights or more; got num=1": lambda: size_strata(model, 1),
        "share must be above 0 and below 1": (
            lambda: dependence(model, answers, needs, strata, torch.Generator(), share=0.0)
        ),
        "bridges have two owners or more": lambda: Planting(shared=((1,),)),
        "owners are 0 to 5": lambda: Planting(shared=((1, 6),)),
    }
    for message, ask in asked.items():
        with pytest.raises(LerayError, match=message):
            ask()
    model.requires_grad_(False)
    with pytest.raises(LerayError, match="every weight must require its gradient"):
        needs_of(model, answers)
