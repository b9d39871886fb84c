"""Transport: against the product of reflections token by token, and what a connection must do."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from leray.algebra.connections import holonomy
from leray.algebra.fields import Floats
from leray.lm.attention import causal_attention
from leray.lm.config import ModelConfig
from leray.lm.model import Attention, Carried
from leray.lm.pointwise import turns_of
from leray.lm.transport import transport_of


def drawn(seed: int, *shape: int) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=g, dtype=torch.float64)


def products(vectors: Tensor) -> list[Tensor]:
    """G_1, G_2, … of one sequence, reflection by reflection."""
    g, found = torch.eye(vectors.shape[-1], dtype=vectors.dtype), []
    for token in vectors:
        for u in token:
            g = g - 2 * torch.outer(u, u @ g) / (u @ u)
        found.append(g)
    return found


def layer_of(positions: str, **switches: int) -> Attention:
    """A layer of width 16 in float64, its matrices drawn."""
    config = ModelConfig(num_tokens=2, width=16, positions=positions, **switches)  # pyright: ignore[reportArgumentType]
    layer = Attention(config, 0).double()
    for i, p in enumerate(layer.parameters()):
        with torch.no_grad():
            p.copy_(drawn(i, *p.shape) / 4 if p.ndim == 2 else p)
    return layer


def carried(x: Tensor, head_dim: int) -> Carried:
    """What a first layer is handed."""
    return Carried(turns_of(x.shape[1], head_dim, 10_000.0, x))


@settings(max_examples=50)
@given(
    st.integers(1, 20), st.integers(1, 3), st.integers(2, 9), st.integers(1, 3), st.integers(0, 99)
)
def test_oracle_the_product_token_by_token(time, num, block, pieces, seed):
    """Every five numbers of a vector are carried, by the map of their token."""
    vectors, x = drawn(seed, 2, time, num, 5), drawn(seed + 1, 2, time, pieces * 5)
    made = transport_of(vectors, block)
    to, back = made.to_start(x), made.from_start(x)
    for i in range(2):
        for t, g in enumerate(products(vectors[i])):
            torch.testing.assert_close(made.maps[i, t], g)
            for part in range(0, 5 * pieces, 5):
                here = x[i, t, part : part + 5]
                torch.testing.assert_close(to[i, t, part : part + 5], g.mT @ here)
                torch.testing.assert_close(back[i, t, part : part + 5], g @ here)


def test_oracle_levels_of_blocks():
    """Blocks of blocks of blocks, the last ones not full, against one product after another."""
    vectors = drawn(8, 3 * 3 * 3 * 2 + 1, 2, 3)
    wanted = torch.stack(products(vectors))
    for block in (2, 3, 16, 100):
        torch.testing.assert_close(transport_of(vectors, block).maps, wanted)


@given(st.integers(1, 30), st.integers(0, 99))
def test_identity_there_and_back_and_lengths_are_kept(time, seed):
    made, x = transport_of(drawn(seed, time, 2, 6), 8), drawn(seed + 1, time, 12)
    torch.testing.assert_close(made.from_start(made.to_start(x)), x)
    torch.testing.assert_close(made.to_start(x).norm(dim=-1), x.norm(dim=-1))


@pytest.mark.parametrize("num", [1, 2, 3])
def test_gradients_are_differences(num):
    """Oracle: finite differences in float64, through both directions and levels of blocks, twice.

    The backward pass takes its shape from the orthogonality of the maps; the second derivative is
    that of the backward pass.
    """
    vectors, x = drawn(0, 5, num, 3).requires_grad_(), drawn(1, 5, 3).requires_grad_()

    def both(vectors: Tensor, x: Tensor) -> Tensor:
        made = transport_of(vectors, 2)
        return made.from_start(made.to_start(x).cumsum(0))

    assert torch.autograd.gradcheck(both, (vectors, x))
    assert torch.autograd.gradgradcheck(both, (vectors, x))


def test_oracle_gradients_of_automatic_differentiation():
    """Against the gradient through the product token by token, over two levels of full blocks."""
    vectors, weights = drawn(9, 40, 2, 4), drawn(10, 40, 4, 4)
    one, two = (vectors.clone().requires_grad_() for _ in range(2))
    (transport_of(one, 4).maps * weights).sum().backward()
    (torch.stack(products(two)) * weights).sum().backward()
    torch.testing.assert_close(one.grad, two.grad)


def test_vectors_of_zero_reflect_nothing():
    vectors = drawn(11, 6, 2, 3)
    vectors[1, 0] = vectors[4] = 0
    vectors.requires_grad_()
    made = transport_of(vectors, 2)
    kept = vectors.detach()
    wanted = products(
        torch.cat([kept[:1].flatten(0, 1), kept[1, 1:], kept[2:4].flatten(0, 1)])[:, None]
    )
    torch.testing.assert_close(made.maps[3], wanted[-1])
    torch.testing.assert_close(made.maps[4], made.maps[3])
    made.maps.square().sum().backward()
    assert vectors.grad is not None
    assert bool(vectors.grad.isfinite().all())


def test_half_precision_keeps_orthogonal_maps():
    """In bfloat16 a product of 300 reflections would be off by percents."""
    vectors = drawn(12, 300, 1, 4).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        made = transport_of(vectors)
    assert made.maps.dtype == torch.float32
    around = made.maps.mT @ made.maps
    # 300 roundings of a few units in the last place
    torch.testing.assert_close(around, torch.eye(4).expand_as(around), rtol=0, atol=1e-4)
    assert made.to_start(vectors[:, 0]).dtype == torch.bfloat16


def test_oracle_attention_with_transport_is_its_definition():
    """y_t = Σ_s a_ts G_t G_sᵀ v_s with logits q_t · G_t G_sᵀ k_s."""
    time, d = 11, 4
    vectors = drawn(2, time, 2, d)
    q, k, v = (drawn(3 + i, time, d) for i in range(3))
    made = transport_of(vectors, 4)
    carried = [made.to_start(x) for x in (q, k, v)]
    found = made.from_start(causal_attention(carried[0], carried[1], carried[2]))
    g = products(vectors)
    for t in range(time):
        carried = [g[t] @ g[s].mT for s in range(t + 1)]
        logits = torch.stack([q[t] @ m @ k[s] for s, m in enumerate(carried)]) / d**0.5
        moved = torch.stack([m @ v[s] for s, m in enumerate(carried)])
        wanted = logits.softmax(0) @ moved
        torch.testing.assert_close(found[t], wanted)


@given(st.integers(0, 99), st.integers(0, 8))
def test_identity_a_token_changes_nothing_before_it(seed, t):
    vectors, x = drawn(seed, 9, 2, 4), drawn(seed + 1, 9, 4)

    def attend(vectors: Tensor) -> Tensor:
        made = transport_of(vectors, 4)
        carried = made.to_start(x)
        return made.from_start(causal_attention(carried, carried, carried, 5))

    before = attend(vectors)
    vectors = vectors.clone()
    vectors[t] = drawn(seed + 2, 2, 4)
    torch.testing.assert_close(attend(vectors)[:t], before[:t], rtol=0, atol=0)


@pytest.mark.parametrize("positions", ["transport", "both"])
def test_oracle_a_layer_shares_transports_among_its_heads(positions):
    """Two transports of four heads, each on stalks of 2 in heads of 4, from the definition.

    Of both, the second two numbers of queries and keys turn by a radian a token.
    """
    layer = layer_of(positions, num_heads=4, stalk=2, num_transports=2)
    x = drawn(13, 1, 7, 16)
    found = layer(x, carried(x, 4))[0]
    assert layer.turn is not None
    assert layer.out is not None
    vectors = layer.turn(x)[0].unflatten(-1, (2, 2, 2))
    q, k, v = (y[0].unflatten(-1, (4, 4)) for y in layer.into(x).chunk(3, dim=-1))
    wanted = torch.zeros(7, 4, 4, dtype=torch.float64)
    for head in range(4):
        g = products(vectors[:, head // 2])
        for t in range(7):
            unit, logits, moved = F.normalize(q[t, head], dim=0), [], []
            for s in range(t + 1):
                m = g[t] @ g[s].mT
                for_key, for_value = (
                    (m, m) if positions == "transport" else (by_angle(s - t), torch.eye(2).double())
                )
                key = torch.block_diag(m, for_key) @ F.normalize(k[s, head], dim=0)
                logits.append(unit @ key * layer.temperature[head].squeeze() ** 2)
                moved.append(torch.block_diag(m, for_value) @ v[s, head])
            wanted[t, head] = torch.stack(logits).softmax(0) @ torch.stack(moved)
    torch.testing.assert_close(found, wanted.flatten(1) @ layer.out.weight.mT)


def by_angle(angle: int) -> Tensor:
    """A rotation of the plane."""
    cos, sin = math.cos(angle), math.sin(angle)
    return torch.tensor([[cos, -sin], [sin, cos]], dtype=torch.float64)


@settings(max_examples=30)
@given(
    st.integers(0, 99),
    st.integers(0, 19),
    st.sampled_from([1, 2]),
    st.sampled_from(["transport", "both"]),
)
def test_identity_a_token_changes_nothing_before_it_in_a_layer(seed, t, num_transports, positions):
    layer = layer_of(positions, num_heads=2, stalk=4, num_transports=num_transports)
    x = drawn(seed, 2, 20, 16)
    changed = x.clone()
    changed[:, t] = drawn(seed + 1, 2, 16)
    before, after = layer(x, carried(x, 8)), layer(changed, carried(x, 8))
    torch.testing.assert_close(after[:, :t], before[:, :t], rtol=0, atol=0)
    assert not torch.equal(after[:, t:], before[:, t:])


def test_two_words_with_the_same_letters_are_carried_apart():
    """The commutator of two letters turns, unless their planes agree."""
    a, b = drawn(5, 2, 3), drawn(6, 2, 3)
    one, two = (products(torch.stack(word))[-1] for word in ((a, b), (b, a)))
    assert float((one @ two.mT - torch.eye(3)).norm()) > 0.1
    assert float(torch.linalg.det(one)) == pytest.approx(1)  # two reflections: a rotation
    same = torch.stack([a[0], a[0] + 0.3 * a[1]])  # in the plane of a
    first, second = (products(torch.stack(word))[-1] for word in ((a, same), (same, a)))
    torch.testing.assert_close(first, second)


def test_transport_is_flat_on_the_tokens_of_one_text():
    """From r to s to t is from r to t: no triangle of tokens has holonomy."""
    g = products(drawn(7, 6, 2, 4))
    steps = {(r, s): g[s] @ g[r].mT for r in range(6) for s in range(r + 1, 6)}
    field = Floats()
    around = holonomy(steps, [0, 2, 5, 3], field)
    torch.testing.assert_close(around, field.identity(4))


def test_refusals():
    with pytest.raises(ValueError, match=r"with m ≥ 1, and block ≥ 2; got \[3, 0, 2\] and 16"):
        transport_of(torch.zeros(3, 0, 2))
    with pytest.raises(ValueError, match="and 1"):
        transport_of(torch.ones(3, 1, 2), 1)
    made = transport_of(torch.ones(3, 1, 2))
    with pytest.raises(ValueError, match=r"\[3\] and a multiple of 2 numbers; got \[3, 5\]"):
        made.to_start(torch.ones(3, 5))
    with pytest.raises(ValueError, match=r"got \[4, 2\]"):
        made.from_start(torch.ones(4, 2))


@pytest.mark.parametrize(
    ("switches", "said"),
    [
        ({"stalk": 5}, "stalk must divide the 8 dimensions of a head that are transported; got 5"),
        ({"stalk": 0}, "stalk must be 2 to 1,024; got 0"),
        ({"positions": "both", "stalk": 8}, "stalk must divide the 4 dimensions"),
        ({"positions": "both", "width": 12}, "a multiple of four times the heads for both, 8"),
        ({"num_transports": 3}, "num_transports must divide the 2 heads; got 3"),
        ({"num_transports": 0}, "num_transports must divide the 2 heads; got 0"),
        ({"positions": "rotary", "stalk": 4}, "stalk has no effect without positions = transport"),
        ({"positions": "rotary", "num_transports": 2}, "num_transports has no effect without"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(switches, said):
    with pytest.raises(ValueError, match=said):
        ModelConfig(**{"num_tokens": 2, "width": 16, "positions": "transport"} | switches)
