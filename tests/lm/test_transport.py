"""Transport: against the product of reflections token by token, and what a connection must do."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from leray.algebra.connections import holonomy
from leray.algebra.fields import Floats
from leray.lm.attention import causal_attention
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


@given(st.integers(1, 20), st.integers(1, 3), st.integers(1, 9), st.integers(0, 99))
def test_oracle_the_product_token_by_token(time, num, block, seed):
    vectors, x = drawn(seed, 2, time, num, 5), drawn(seed + 1, 2, time, 5)
    made = transport_of(vectors, block)
    to, back = made.to_start(x), made.from_start(x)
    for i in range(2):
        for t, g in enumerate(products(vectors[i])):
            torch.testing.assert_close(to[i, t], g.mT @ x[i, t])
            torch.testing.assert_close(back[i, t], g @ x[i, t])


@given(st.integers(1, 30), st.integers(0, 99))
def test_identity_there_and_back_and_lengths_are_kept(time, seed):
    made, x = transport_of(drawn(seed, time, 2, 6), 8), drawn(seed + 1, time, 6)
    torch.testing.assert_close(made.from_start(made.to_start(x)), x)
    torch.testing.assert_close(made.to_start(x).norm(dim=-1), x.norm(dim=-1))


def test_gradients_are_differences():
    """Oracle: finite differences in float64, through both directions and over blocks."""
    vectors, x = drawn(0, 5, 2, 3).requires_grad_(), drawn(1, 5, 3).requires_grad_()

    def both(vectors: Tensor, x: Tensor) -> Tensor:
        made = transport_of(vectors, 2)
        return made.from_start(made.to_start(x).cumsum(0))

    assert torch.autograd.gradcheck(both, (vectors, x))


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
    with pytest.raises(ValueError, match=r"with m ≥ 1, and block ≥ 1; got \[3, 0, 2\] and 32"):
        transport_of(torch.zeros(3, 0, 2))
    with pytest.raises(ValueError, match="and 0"):
        transport_of(torch.ones(3, 1, 2), 0)
