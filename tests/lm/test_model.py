"""The model: causal, of the shape that was asked, drawn alike, and with right gradients."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from leray.lm.model import Model, ModelConfig
from leray.lm.pointwise import rotated, turns_of
from leray.train.evaluation import look_of

POSITIONS = ("rotary", "transport", "none")


def made(positions, seed: int = 0, **changes) -> Model:
    config = ModelConfig(num_tokens=11, width=16, positions=positions, **changes)
    model = Model(config, torch.Generator().manual_seed(seed)).double()
    g = torch.Generator().manual_seed(seed + 1)
    for p in model.parameters():  # the branches end in zeros, which would hide what they do
        p.data = p.data + 0.3 * torch.randn(p.shape, generator=g, dtype=p.dtype)
    return model


@pytest.mark.parametrize("positions", POSITIONS)
@settings(max_examples=15)
@given(st.integers(0, 99), st.integers(0, 11), st.sampled_from([(0,), (3,), (2, 0)]))
def test_identity_a_token_changes_nothing_before_it(positions, seed, t, windows):
    model = made(positions, seed, windows=windows)
    g = torch.Generator().manual_seed(seed)
    tokens = torch.randint(11, (2, 12), generator=g)
    before = model(tokens)
    tokens[:, t] = (tokens[:, t] + 1) % 11
    after = model(tokens)
    torch.testing.assert_close(after[:, :t], before[:, :t], rtol=0, atol=0)
    assert float((after[:, t] - before[:, t]).abs().max().detach()) > 1e-6


@pytest.mark.parametrize("positions", POSITIONS)
def test_gradients_are_differences(positions):
    """Oracle: central differences of the loss along random directions of every weight."""
    model = made(positions)
    tokens = torch.randint(11, (2, 7), generator=torch.Generator().manual_seed(3))

    def loss() -> torch.Tensor:
        return model(tokens).square().mean()

    grads = torch.autograd.grad(loss(), list(model.parameters()))
    g, h = torch.Generator().manual_seed(4), 1e-6
    for p, grad in zip(model.parameters(), grads, strict=True):
        way = torch.randn(p.shape, generator=g, dtype=p.dtype)
        start = p.data.clone()
        ends = []
        for sign in (1, -1):
            p.data = start + sign * h * way
            ends.append(float(loss().detach()))
        p.data = start
        slope = (ends[0] - ends[1]) / (2 * h)
        assert slope == pytest.approx(float((grad * way).sum()), rel=1e-4, abs=1e-7)


@pytest.mark.parametrize("positions", POSITIONS)
def test_it_begins_as_the_embedding_and_is_drawn_alike(positions):
    """Branches end in zeros, so that the logits are those of the embedding alone."""
    config = ModelConfig(num_tokens=11, width=16, positions=positions)
    one, two = (Model(config, torch.Generator().manual_seed(5)) for _ in range(2))
    tokens = torch.arange(11)[None]
    torch.testing.assert_close(one(tokens), two(tokens), rtol=0, atol=0)
    e = one.embedding.weight
    x = torch.nn.functional.rms_norm(e, (16,))
    torch.testing.assert_close(one(tokens)[0], 15 * torch.tanh(x @ e.T / 15), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("num_classes", [None, 5])
def test_oracle_the_loss_is_torchs_of_the_logits(num_classes):
    model = made("rotary", num_classes=num_classes)
    g = torch.Generator().manual_seed(3)
    tokens, targets = torch.randint(11, (2, 7), generator=g), torch.randint(5, (2, 7), generator=g)
    found = model.loss(tokens, targets)
    wanted = torch.nn.functional.cross_entropy(model(tokens).flatten(0, 1), targets.flatten())
    torch.testing.assert_close(found, wanted)
    weights = list(model.parameters())
    grads = [torch.autograd.grad(y, weights) for y in (found, wanted)]
    for ours, theirs in zip(*grads, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_rotary_logits_know_the_distance_only():
    g = torch.Generator().manual_seed(6)
    q, k = torch.randn(2, 1, 8, generator=g, dtype=torch.float64)
    turns = turns_of(9, 8, 100.0, q)
    a, b = (rotated(x.expand(9, 8), turns) for x in (q, k))
    logits = a @ b.T
    for t in range(8):
        torch.testing.assert_close(logits[t + 1, 1:], logits[t, :-1])
    torch.testing.assert_close(a.norm(dim=-1), q.norm().expand(9))


def test_refusals():
    with pytest.raises(ValueError, match="width must be a multiple of twice the heads, 4; got 6"):
        ModelConfig(num_tokens=3, width=6)
    with pytest.raises(ValueError, match="num_tokens must be 1 to"):
        ModelConfig(num_tokens=0)
    with pytest.raises(ValueError, match="windows must hold one"):
        ModelConfig(num_tokens=3, windows=())


def test_identity_a_flat_start_is_none_and_does_not_stay():
    """Pairs of equal reflections cancel, to rounding; their gradient does not vanish."""
    flat = made("transport", stalk=4, num_transports=2, num_reflections=4)
    config = flat.config
    fresh = Model(replace(config, flat_start=True), torch.Generator().manual_seed(0)).double()
    drawn = {n: p for n, p in fresh.named_parameters() if n.endswith("turn.weight")}
    flat.load_state_dict({**flat.state_dict(), **drawn})
    none = made("none")
    none.load_state_dict({n: p for n, p in flat.state_dict().items() if n not in drawn})
    tokens = torch.randint(11, (2, 9), generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(flat(tokens), none(tokens), atol=1e-9, rtol=0)
    turns = [p for n, p in flat.named_parameters() if n in drawn]
    assert len(turns) == config.num_layers
    assert all(float(g.abs().max()) > 1e-4 for g in torch.autograd.grad(flat(tokens).sum(), turns))


def test_flat_start_refuses_odd_reflections_and_rotary_positions():
    with pytest.raises(ValueError, match="an even number; got 3"):
        ModelConfig(num_tokens=5, positions="transport", num_reflections=3, flat_start=True)
    with pytest.raises(ValueError, match="flat_start has no effect without positions = transport"):
        ModelConfig(num_tokens=5, flat_start=True)


def test_oracle_the_look_of_a_model_is_its_windows():
    """Uniform weights, for the queries are zero: of a window of w, d/w lie within d tokens."""
    config = ModelConfig(
        num_tokens=7, width=8, num_layers=3, windows=(8, 0, 16), recurrent=(False, True, False)
    )
    model = Model(config, torch.Generator().manual_seed(0))
    with torch.no_grad():
        for block in model.blocks:
            for name, p in block.named_parameters():
                if name.endswith("temperature"):
                    p.zero_()
    tokens, starts = np.arange(200) % 7, np.array([0, 100, 200])
    look = look_of(model, tokens, starts, 32)
    assert look.layers == (0, 2)
    assert look.within == (1, 2, 4, 8, 16)
    np.testing.assert_allclose(look.shares[0], [1 / 8, 2 / 8, 4 / 8, 1, 1], rtol=1e-5)
    np.testing.assert_allclose(look.shares[1], [1 / 16, 1 / 8, 1 / 4, 1 / 2, 1], rtol=1e-5)
