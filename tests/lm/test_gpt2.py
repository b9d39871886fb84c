"""GPT-2: against another implementation of it, logits and gradients, and how it begins."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F  # noqa: N812
from transformers import GPT2Config as TheirConfig
from transformers import GPT2LMHeadModel

from leray.lm.gpt2 import GPT2, SPREAD, GPT2Config

NAMES = {
    "embedding": "transformer.wte",
    "positions": "transformer.wpe",
    "norm": "transformer.ln_f",
    "norm_attention": "ln_1",
    "into": "attn.c_attn",
    "out": "attn.c_proj",
    "norm_mlp": "ln_2",
    "up": "mlp.c_fc",
    "down": "mlp.c_proj",
}
TRANSPOSED = {"into", "out", "up", "down"}  # they keep these as [inputs, outputs]


def made(seed: int = 0, num_layers: int = 2, num_heads: int = 2, bias: bool = True) -> GPT2:
    """Every weight moved, so that scales, shifts and biases all tell."""
    config = GPT2Config(
        num_tokens=19, context=12, width=16, num_layers=num_layers, num_heads=num_heads, bias=bias
    )
    model = GPT2(config, torch.Generator().manual_seed(seed))
    g = torch.Generator().manual_seed(seed + 1)
    for p in model.parameters():
        p.data += 0.2 * torch.randn(p.shape, generator=g)
    return model


def theirs(model: GPT2) -> tuple[GPT2LMHeadModel, dict[str, Tensor]]:
    """The peer with our weights, and its parameters under our names, laid out as ours."""
    c = model.config
    peer = GPT2LMHeadModel(
        TheirConfig(
            vocab_size=c.num_tokens, n_positions=c.context, n_embd=c.width, n_layer=c.num_layers,
            n_head=c.num_heads, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
        )
    )  # fmt: skip
    weights, found = dict(peer.named_parameters()), {}
    for name, p in model.named_parameters():
        *path, part, kind = name.split(".")
        layer = f"transformer.h.{path[1]}." if path else ""
        there = weights.pop(f"{layer}{NAMES[part]}.{kind}")
        turned = part in TRANSPOSED and kind == "weight"
        there.data.copy_(p.data.T if turned else p.data)
        found[name] = (there, turned)
    assert not weights  # every one of theirs is one of ours
    return peer, found


@pytest.mark.parametrize("shape", [(2, 2), (3, 4)])
@pytest.mark.parametrize("time", [1, 7, 12])
def test_oracle_transformers_logits_and_gradients(shape, time):
    model = made(num_layers=shape[0], num_heads=shape[1])
    peer, weights = theirs(model)
    tokens = torch.randint(19, (2, time), generator=torch.Generator().manual_seed(3))
    ours, wanted = model(tokens), peer(tokens).logits
    torch.testing.assert_close(ours, wanted, rtol=1e-5, atol=1e-5)
    for logits in (ours, wanted):
        F.cross_entropy(logits.flatten(0, 1), tokens.flatten()).backward()
    for name, p in model.named_parameters():
        there, turned = weights[name]
        assert p.grad is not None
        assert there.grad is not None
        grad = there.grad.T if turned else there.grad
        torch.testing.assert_close(p.grad, grad, rtol=1e-5, atol=1e-5)


@settings(max_examples=15)
@given(st.integers(0, 99), st.integers(0, 11), st.booleans())
def test_identity_a_token_changes_nothing_before_it(seed, t, bias):
    model = made(seed, bias=bias)
    tokens = torch.randint(19, (2, 12), generator=torch.Generator().manual_seed(seed))
    before = model(tokens)
    tokens[:, t] = (tokens[:, t] + 1) % 19
    after = model(tokens)
    torch.testing.assert_close(after[:, :t], before[:, :t], rtol=0, atol=0)
    assert float((after[:, t] - before[:, t]).abs().max().detach()) > 1e-4


def test_identity_without_biases_is_with_biases_of_zero():
    plain = made(bias=False)
    full = GPT2(GPT2Config(num_tokens=19, context=12, width=16), torch.Generator())
    missing = full.load_state_dict(plain.state_dict(), strict=False).missing_keys
    assert missing
    assert all(name.endswith("bias") for name in missing)
    tokens = torch.arange(12)[None]
    torch.testing.assert_close(full(tokens), plain(tokens))


def test_statistical_weights_begin_as_said():
    """Root mean squares within 5 of their standard errors, √(1 / 2n) of the value; drawn alike."""
    config = GPT2Config(num_tokens=300, context=100, width=64, num_layers=8)
    one, two = (GPT2(config, torch.Generator().manual_seed(5)) for _ in range(2))
    for (name, p), q in zip(one.named_parameters(), two.parameters(), strict=True):
        assert torch.equal(p, q)
        if p.ndim == 1:
            assert torch.equal(p, torch.full_like(p, float("norm" in name and "weight" in name)))
            continue
        wanted = SPREAD / 4 if ".out." in name or ".down." in name else SPREAD
        found = float(p.detach().square().mean().sqrt())
        assert found == pytest.approx(wanted, rel=5 / math.sqrt(2 * p.numel()))


def test_refusals():
    with pytest.raises(ValueError, match="width must be a multiple of the heads, 4; got 6"):
        GPT2Config(num_tokens=3, context=2, width=6, num_heads=4)
    with pytest.raises(ValueError, match="must be ≥ 1; got 0, 2, 64, 2, 2"):
        GPT2Config(num_tokens=0, context=2)
    with pytest.raises(ValueError, match="the context holds 12 tokens; got 13"):
        made()(torch.zeros(1, 13, dtype=torch.int64))
