"""Optimisers whose steps are scaled."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F  # noqa: N812

from leray.circuits.zones import Turned, Zoned, shares_by_name
from leray.errors import LerayError
from leray.lm.optimizer import Muon, OptimizerConfig

KINDS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.1),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1),
    "muon": lambda p: Muon([{"params": list(p)}], OptimizerConfig()),
}


def drawn(seed=0):
    torch.manual_seed(seed)
    model = nn.Linear(5, 4, bias=False).double()
    return model, torch.randn(7, 5).double(), torch.randn(7, 4).double()


def stepped(model, optimizer, x, y, times=1, scale=1.0):
    for _ in range(times):
        optimizer.zero_grad()
        (scale * F.mse_loss(model(x), y)).backward()
        optimizer.step()
    return model.weight.detach().clone()


@pytest.mark.parametrize("kind", KINDS)
@given(share=st.floats(0, 1))
def test_identity_the_first_step_goes_its_share(kind, share):
    """Whatever the optimiser, weight decay included; the rest of the weights moves fully."""
    model, x, y = drawn()
    start = model.weight.detach().clone()
    whole = stepped(model, KINDS[kind](model.parameters()), x, y)
    model, x, y = drawn()
    shares = torch.ones(4, 5, dtype=torch.float64)
    shares[:2] = share
    found = stepped(model, Zoned(KINDS[kind](model.parameters()), {model.weight: shares}), x, y)
    torch.testing.assert_close(found, start + shares * (whole - start))
    assert torch.equal(found[2:], whole[2:])


@pytest.mark.parametrize("kind", KINDS)
def test_the_core_stays_to_the_last_bit(kind):
    model, x, y = drawn()
    start = model.weight.detach().clone()
    shares = torch.ones(4, 5, dtype=torch.float64)
    shares[1, 2] = 0
    found = stepped(model, Zoned(KINDS[kind](model.parameters()), {model.weight: shares}), x, y, 20)
    assert found[1, 2] == start[1, 2]
    assert int((found == start).sum()) == 1


@pytest.mark.parametrize(("kind", "left"), [("adamw", 0.99), ("muon", 0.99), ("sgd", 0.2)])
def test_scaling_the_gradient_instead_protects_nothing_from_adam_and_muon(kind, left):
    """A tenth of the gradient: the way gone is the same, but for plain gradient descent."""
    model, x, y = drawn()
    start = model.weight.detach().clone()
    whole = (stepped(model, KINDS[kind](model.parameters()), x, y, 5) - start).norm()
    model, x, y = drawn()
    scaled = (stepped(model, KINDS[kind](model.parameters()), x, y, 5, 0.1) - start).norm()
    assert (float(scaled / whole) > 0.95) == (left > 0.9)
    model, x, y = drawn()
    zoned = Zoned(KINDS[kind](model.parameters()), {model.weight: 0.1})
    assert float((stepped(model, zoned, x, y, 5) - start).norm() / whole) < 0.2


def test_shares_by_the_names_of_weights():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    assert shares_by_name(model, {"1.weight": 0.5}) == {model[0].weight: 0.5}
    with pytest.raises(LerayError, match=r"'1\.weight' is tied to a weight that has a share"):
        shares_by_name(model, {"0.weight": 0.5, "1.weight": 0.1})
    with pytest.raises(LerayError, match=r"no weight '0\.wieght' among 4.*0\.weight"):
        shares_by_name(model, {"0.wieght": 0.5})


def test_shares_that_cannot_be():
    model, _, _ = drawn()
    optimizer = KINDS["sgd"](model.parameters())
    for share, told in (
        (1.5, r"shares must lie in \[0, 1\]; got 1.5"),
        (float("nan"), r"shares must lie in \[0, 1\]"),
        (torch.ones(2, 2), r"its weight's shape \[4, 5\]; got \[2, 2\]"),
    ):
        with pytest.raises(LerayError, match=told):
            Zoned(optimizer, {model.weight: share})
    with pytest.raises(LerayError, match="the optimiser does not move"):
        Zoned(optimizer, {torch.ones(2): 0.5})


def test_identity_turned_shares_in_the_standard_bases_are_shares():
    """Of coordinates; in any bases share 1 moves all of the way and share 0 none."""
    generator = torch.Generator().manual_seed(0)
    shares = torch.rand(4, 6, generator=generator)
    eye = Turned(torch.eye(4), torch.eye(6), shares)
    update = torch.randn(4, 6, generator=generator)
    torch.testing.assert_close(eye.scaled(eye.turned(update)), shares * update)
    out, into = bases(generator, torch.float32)
    whole = Turned(out, into, torch.ones(4, 6))
    torch.testing.assert_close(whole.scaled(whole.turned(update)), update)


def bases(generator, dtype):
    """Orthogonal ones of the output and the input."""
    return (torch.linalg.qr(torch.randn(n, n, generator=generator, dtype=dtype))[0] for n in (4, 6))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("still", [False, True])
def test_oracle_turned_shares_are_shares_of_a_model_in_these_bases(kind, still):
    """Ten steps: y = V Z Uᵀ x, of which any optimiser moves Z with shares of its coordinates."""
    generator = torch.Generator().manual_seed(0)
    out, into = bases(generator, torch.float64)
    shapes = (9, 6), (9, 4), (4, 6)
    x, y, start = (torch.randn(s, generator=generator, dtype=torch.float64) for s in shapes)
    shares = torch.zeros(4, 6) if still else torch.rand(4, 6, generator=generator)
    shares = shares.double()
    w, z = nn.Parameter(start.clone()), nn.Parameter(out.mT @ start @ into)
    turned = Zoned(KINDS[kind]([w]), {w: Turned(out, into, shares)})
    within = Zoned(KINDS[kind]([z]), {z: shares})
    for _ in range(10):
        for optimizer, weight in ((turned, w), (within, out @ z @ into.mT)):
            optimizer.zero_grad()
            F.mse_loss(x @ weight.mT, y).backward()
            optimizer.step()
    torch.testing.assert_close(w.detach(), (out @ z @ into.mT).detach())
    assert torch.equal(w.detach(), start) == still


def test_adam_in_turned_bases_learns_free_directions_though_a_kept_one_is_large():
    """One direction of the input is a hundred times as large, kept, and never done with: it fills
    every entry of the gradient. Adam on the entries, though only what is free of its steps is
    taken, goes a small part of the way that it goes in the bases."""
    generator = torch.Generator().manual_seed(0)
    _, into = bases(generator, torch.float64)
    z, _ = torch.linalg.qr(torch.randn(64, 6, generator=generator, dtype=torch.float64))
    true = torch.randn(4, 6, generator=generator, dtype=torch.float64)
    z = 8 * z * torch.tensor([100, 1, 1, 1, 1, 1])
    share = Turned(torch.eye(4).double(), into, torch.ones(4, 6, dtype=torch.float64))
    share.shares[:, 0] = 0
    gone = []
    for turned in (True, False):
        w = nn.Parameter(torch.zeros(4, 6, dtype=torch.float64))
        adam = torch.optim.AdamW([w], lr=0.001, weight_decay=0.0)
        optimizer = Zoned(adam, {w: share} if turned else {})
        for _ in range(50):
            optimizer.zero_grad()
            F.mse_loss(z @ into.mT @ w.mT, z @ true.mT).backward()
            optimizer.step()
            if not turned:
                with torch.no_grad():
                    w.copy_(share.scaled(share.turned(w)))
        found = w.detach() @ into
        assert float(found[:, 0].norm()) < 1e-12
        gone.append(float((found * true)[:, 1:].sum()))
    assert gone[0] > 3 * abs(gone[1])


def test_oracle_an_optimiser_that_sees_shares_of_gradients_is_one_of_the_free_rows_alone():
    """Muon, twenty steps; without, its steps are fitted to rows that are kept."""
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(9, n, generator=generator, dtype=torch.float64) for n in (6, 4))
    y[:, :2] *= 100
    shares = torch.tensor([[0.0], [0.0], [1.0], [1.0]]).expand(4, 6)
    free = nn.Parameter(torch.zeros(2, 6, dtype=torch.float64))
    own = {g: nn.Parameter(torch.zeros(4, 6, dtype=torch.float64)) for g in (True, False)}
    every = [(free, KINDS["muon"]([free]), y[:, 2:])]
    every += [(w, Zoned(KINDS["muon"]([w]), {w: shares}, gradients=g), y) for g, w in own.items()]
    for _ in range(20):
        for weight, optimizer, target in every:
            optimizer.zero_grad()
            F.mse_loss(x @ weight.mT, target, reduction="sum").backward()
            optimizer.step()
    torch.testing.assert_close(own[True][2:], free, rtol=1e-4, atol=1e-6)
    assert bool((own[True][:2] == 0).all())
    assert (own[False][2:] - free).norm().item() > 0.1 * free.norm().item()


def test_turned_shares_that_do_not_fit():
    p = torch.nn.Parameter(torch.zeros(4, 6))
    one, other = torch.eye(6), torch.eye(4)
    adam = torch.optim.AdamW([p])
    with pytest.raises(LerayError, match=r"its weight's shape \[4, 6\]; got \[6, 4\]"):
        Zoned(adam, {p: Turned(one, other, torch.ones(6, 4))})
    with pytest.raises(LerayError, match=r"shares must lie in \[0, 1\]; got 2 to 2"):
        Zoned(adam, {p: Turned(other, one, torch.full((4, 6), 2.0))})
