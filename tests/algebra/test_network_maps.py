"""Jacobians of a network at a point, and the sheaf of an attention layer."""

from __future__ import annotations

import math
from inspect import unwrap  # past the shape checks of the test run

import pytest
import torch
from torch import nn

from leray.algebra.attention import attention_of, attention_sheaf
from leray.algebra.complexes import NotAComplexError
from leray.algebra.jacobians import jacobian_complex
from leray.errors import LerayError


def test_jacobians_of_a_linear_network_are_its_weights() -> None:
    torch.manual_seed(0)
    first, second = nn.Linear(4, 6).double(), nn.Linear(6, 3).double()
    found = jacobian_complex(nn.Sequential(first, second), torch.randn(4).double())
    torch.testing.assert_close(found.jacobians[0], first.weight.detach())
    torch.testing.assert_close(found.jacobians[1], second.weight.detach())
    with pytest.raises(NotAComplexError, match=r"no cohomology: composition residuals \d"):
        _ = found.complex
    assert str(found).startswith("composition residuals")
    assert str(found).endswith("through dimensions 4 → 6 → 3")


def test_a_planted_complex_has_cohomology() -> None:
    """x ↦ (x, x, …) and then differences: the constant maps die."""
    up = torch.tensor([[1.0], [1.0], [1.0]])
    down = torch.tensor([[-1.0, 1.0, 0.0], [0.0, -1.0, 1.0]])
    found = jacobian_complex([lambda x: up @ x + 3, lambda x: down @ x], torch.ones(1))
    assert found.residuals == (0.0,)
    assert found.complex.betti_numbers() == (0, 0, 0)
    assert found.nearest().residual < 1e-7


def test_a_nonlinear_stage_is_its_differences() -> None:
    """Oracle: central differences."""
    torch.manual_seed(1)
    net = nn.Sequential(nn.Linear(3, 5), nn.GELU(), nn.LayerNorm(5)).double()
    x, h = torch.randn(3).double(), 1e-6
    found = jacobian_complex([net], x)
    steps = h * torch.eye(3).double()
    wanted = torch.stack([(net(x + s) - net(x - s)) / (2 * h) for s in steps], -1)
    torch.testing.assert_close(found.jacobians[0], wanted.detach(), rtol=1e-6, atol=1e-7)
    assert str(found).startswith("composition residuals none (one stage)")


def test_points_of_any_shape() -> None:
    conv = nn.Conv2d(1, 2, 3)
    found = jacobian_complex([conv, nn.Flatten(0)], torch.randn(1, 4, 4))
    assert found.jacobians[0].shape == (8, 16)
    torch.testing.assert_close(found.jacobians[1], torch.eye(8))


def test_stages_that_have_no_jacobian_are_refused() -> None:
    with pytest.raises(LerayError, match="at least one stage"):
        jacobian_complex([], torch.ones(2))
    with pytest.raises(LerayError, match=r"must return a tensor of torch.float32; got tuple"):
        jacobian_complex([lambda x: (x, x)], torch.ones(2))  # pyright: ignore[reportArgumentType]
    with pytest.raises(LerayError, match="stage 0 gives values that are not finite"):
        jacobian_complex([lambda x: x / 0], torch.ones(2))


def layer_and_tokens(num_tokens: int = 5) -> tuple[nn.MultiheadAttention, torch.Tensor]:
    torch.manual_seed(2)
    return nn.MultiheadAttention(6, 2, batch_first=True).double(), torch.randn(
        num_tokens, 6
    ).double()


def graph_laplacian(weights: torch.Tensor) -> torch.Tensor:
    off = weights - torch.diag(weights.diagonal())
    return torch.diag(off.sum(1)) - off


@pytest.mark.parametrize("causal", [False, True])
def test_weights_and_value_maps_are_the_layers(causal: bool) -> None:
    """Oracle: the layer's own output, put together again from what was taken out."""
    layer, tokens = layer_and_tokens()
    weights, values = attention_of(layer, tokens, causal=causal)
    bias = layer.in_proj_bias[2 * 6 :].reshape(2, 1, 3)
    heads = weights @ (tokens @ values.mT + bias)
    made = layer.out_proj(heads.permute(1, 0, 2).reshape(5, 6))
    mask = (
        nn.Transformer.generate_square_subsequent_mask(5, dtype=torch.float64) if causal else None
    )
    wanted, _ = layer(tokens[None], tokens[None], tokens[None], attn_mask=mask)
    torch.testing.assert_close(made, wanted[0])


def test_its_laplacian_is_the_sum_over_heads() -> None:
    layer, tokens = layer_and_tokens()
    weights, values = attention_of(layer, tokens)
    sheaf = attention_sheaf(weights, values, symmetrise="mean")
    symmetric = (weights + weights.mT) / 2
    wanted = sum(
        torch.kron(graph_laplacian(s), v.mT @ v) for s, v in zip(symmetric, values, strict=True)
    )
    torch.testing.assert_close(sheaf.laplacian(0), wanted)


def test_without_transport_it_is_the_constant_sheaf() -> None:
    layer, tokens = layer_and_tokens()
    weights, values = attention_of(layer, tokens)
    sheaf = attention_sheaf(weights, values, symmetrise="mean")
    sections = sheaf.global_sections()
    assert sections.shape == (30, 6)
    constants = torch.eye(6).double().repeat(5, 1)
    torch.testing.assert_close(sections @ (sections.mT @ constants), constants)


def rotation(angle: float) -> torch.Tensor:
    c, s = math.cos(angle), math.sin(angle)
    return torch.tensor([[c, -s], [s, c]], dtype=torch.float64)


def test_rotations_by_position_are_flat_and_others_are_not() -> None:
    weights, values = torch.full((1, 3, 3), 1 / 3), torch.eye(2)[None]
    pairs = [(0, 1), (0, 2), (1, 2)]
    flat = {(u, v): rotation(0.7 * (v - u)) for u, v in pairs}
    twisted = {**flat, (0, 2): rotation(0.3)}
    for transport, dim in ((flat, 2), (twisted, 0)):
        sheaf = attention_sheaf(weights, values, symmetrise="mean", transport=transport)
        assert sheaf.global_sections().shape[1] == dim


def test_causal_attention_has_no_geometric_mean_and_refusals() -> None:
    layer, tokens = layer_and_tokens()
    weights, values = attention_of(layer, tokens, causal=True)
    with pytest.raises(LerayError, match="no two tokens attend to each other by more than 0"):
        attention_sheaf(weights, values, symmetrise="geometric")
    assert attention_sheaf(weights, values, symmetrise="mean").global_sections().shape == (30, 6)
    with pytest.raises(LerayError, match="symmetrise must be one of mean, geometric; got 'max'"):
        unwrap(attention_sheaf)(weights, values, symmetrise="max")
    with pytest.raises(LerayError, match="finite and ≥ 0"):
        attention_sheaf(-weights, values, symmetrise="mean")
    with pytest.raises(LerayError, match=r"must be \[heads, tokens, tokens\]"):
        unwrap(attention_sheaf)(weights, values[:1], symmetrise="mean")
    with pytest.raises(LerayError, match="threshold must be"):
        attention_sheaf(weights, values, symmetrise="mean", threshold=-1.0)
    with pytest.raises(LerayError, match="kdim or vdim"):
        attention_of(nn.MultiheadAttention(6, 2, kdim=3), tokens)


def test_a_threshold_leaves_edges_out() -> None:
    weights = torch.tensor([[[0.0, 0.9, 0.1], [0.9, 0.0, 0.1], [0.1, 0.1, 0.8]]])
    sheaf = attention_sheaf(weights, torch.eye(2)[None], symmetrise="mean", threshold=0.2)
    assert sheaf.space.f_vector == (3, 1)
    assert sheaf.global_sections().shape[1] == 4


def test_transport_takes_the_lower_token_to_the_higher() -> None:
    """The sections on two tokens are the pairs (x, T x), whatever the value map, if invertible."""
    turn, values = rotation(0.7), torch.tensor([[[1.0, 2.0], [0.0, 1.0]]])
    sheaf = attention_sheaf(
        torch.full((1, 2, 2), 0.5), values, symmetrise="mean", transport={(0, 1): turn}
    )
    sections = sheaf.global_sections()
    assert sections.shape == (4, 2)
    torch.testing.assert_close(sections[2:], turn @ sections[:2])


def test_transport_where_there_is_no_edge_is_refused():
    weights, values = torch.full((1, 3, 3), 1 / 3), torch.eye(2)[None]
    for edge in ((2, 0), (0, 7)):
        with pytest.raises(LerayError, match=r"an edge is \(u, v\) with u < v"):
            attention_sheaf(weights, values, symmetrise="mean", transport={edge: rotation(0.1)})
