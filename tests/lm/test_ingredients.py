"""Every ingredient: its identity; and that no combination of them looks ahead."""

from __future__ import annotations

from collections import defaultdict

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from leray.algebra.complexes import CochainComplex
from leray.algebra.fields import Floats
from leray.lm.attention import causal_attention
from leray.lm.coboundary import Shift, coboundary
from leray.lm.cochains import Cochains
from leray.lm.config import ModelConfig
from leray.lm.convolution import ShortConvolution, delayed
from leray.lm.feedforward import FeedForward, default_hidden
from leray.lm.flops import mean_context, train_flops_per_token
from leray.lm.forgetting import forgetful
from leray.lm.gluing import glued_attention, patch_attention
from leray.lm.losses import LossConfig, exactness_loss, training_loss
from leray.lm.model import Attention, Carried, Model
from leray.lm.pointwise import rotated, turns_of
from leray.lm.recurrence import section
from leray.lm.sections import SectionMemory
from leray.lm.transitions import ExactTransitions, nearest_frame

NUM_TOKENS = 11

SWITCHES = {
    "positions": ("rotary", "transport", "both", "none"),
    "flat_start": (False, True),
    "initialisation": ("normal", "frames"),
    "feedforward": ("relu2", "swiglu", "cup"),
    "mixing": ("none", "coboundary", "convolution"),
    "values": ("plain", "residual", "rotated", "disagreement", "tied_disagreement"),
    "windows": ((0,), (4,), (2, 6, 0), (4, 0)),
    "strides": ((1,), (1, 3)),
    "cochains": (0, 2),
    "forgetting": (False, True),
    "gated": (False, True),
    "recurrent": ((False,), (True, False)),
    "across_levels": (False, True),
    "gluing": (False, True),
    "memory_block": (0, 3),
    "routing": (False, True),
    "transitions": ("none", "plain", "bare", "exact"),
}


def drawn(seed: int, *shape: int) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=g, dtype=torch.float64)


def awake(config: ModelConfig, seed: int) -> Model:
    """A model in float64 none of whose branches is zero."""
    model = Model(config, torch.Generator().manual_seed(seed)).double()
    g = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.3 * torch.randn(p.shape, generator=g, dtype=p.dtype))
    if isinstance(model.transitions, ExactTransitions):
        model.transitions.retract()
    return model


def combination(choices: dict) -> ModelConfig:
    return ModelConfig(num_tokens=NUM_TOKENS, width=8, num_layers=3, **choices)


@st.composite
def combinations(draw) -> dict:
    """Any switches together, those left out that would have no effect beside the others."""
    c = {k: draw(st.sampled_from(v)) for k, v in SWITCHES.items()}
    if c["positions"] not in ("transport", "both"):
        c["flat_start"] = False
    recurs = c["recurrent"][0]  # then of three layers the middle one alone attends
    if recurs and c["values"] == "residual":
        c["values"] = "plain"
    if not any(c["windows"]) or (recurs and not c["windows"][1 % len(c["windows"])]):
        c |= {"gluing": False, "routing": False}
    if c["gluing"]:
        c["strides"] = (1,)
    if len(set(c["windows"])) == len(set(c["strides"])) == 1 and not recurs:
        c |= {"across_levels": False, "transitions": "none"}
    if c["mixing"] == c["transitions"] == "none":  # one layer a level: its input is what is below
        c["across_levels"] = False
    return c


SINGLE = [
    {**base, name: value}
    for name, values in SWITCHES.items()
    for value in values[1:]
    for base in (
        {
            "windows": (2, 0, 0) if name == "across_levels" else (2, 6, 0),
            **({"positions": "transport"} if name == "flat_start" else {}),
        },
    )
]


def check_causal(config: ModelConfig, seed: int, t: int) -> None:
    model = awake(config, seed)
    tokens = torch.randint(NUM_TOKENS, (2, 13), generator=torch.Generator().manual_seed(seed))
    before = model(tokens)
    tokens[:, t] = (tokens[:, t] + 1) % NUM_TOKENS
    after = model(tokens)
    torch.testing.assert_close(after[:, :t], before[:, :t], rtol=0, atol=0)
    assert float((after[:, t:] - before[:, t:]).abs().max().detach()) > 1e-9


@pytest.mark.parametrize("choice", SINGLE, ids=str)
@settings(max_examples=4)
@given(st.integers(0, 99), st.integers(0, 12))
def test_identity_no_ingredient_looks_ahead(choice, seed, t):
    check_causal(combination(choice), seed, t)


@settings(max_examples=60)
@given(combinations(), st.integers(0, 99), st.integers(0, 12))
def test_identity_no_combination_looks_ahead(choices, seed, t):
    check_causal(combination(choices), seed, t)


STARTS = ("flat_start", "initialisation")
"""Switches of what a model begins as, not of what it computes."""


@pytest.mark.parametrize("choice", [c for c in SINGLE if list(c)[-1] not in STARTS], ids=str)
def test_every_switch_changes_what_is_computed(choice):
    """With equal weights other logits; where there are weights of its own, the loss feels them."""
    without = {k: v for k, v in choice.items() if k != list(choice)[-1]}
    one, other = (awake(combination(c), 3) for c in (choice, without))
    tokens = torch.arange(12)[None] % NUM_TOKENS
    own = one.state_dict().keys() - other.state_dict().keys()
    one.loss(tokens, tokens.roll(-1)).backward()
    felt = {n for n, p in one.named_parameters() if p.grad is not None and bool(p.grad.any())}
    assert own <= felt
    if one.state_dict().keys() == other.state_dict().keys():
        other.load_state_dict(one.state_dict())
        assert not torch.equal(one(tokens), other(tokens))


@pytest.mark.parametrize("choice", SINGLE, ids=str)
def test_gradients_of_every_ingredient_are_differences(choice):
    """Oracle: central differences in float64 along a random direction of all weights."""
    config = combination(choice)
    model = awake(config, 5)
    g = torch.Generator().manual_seed(3)
    tokens, targets = torch.randint(NUM_TOKENS, (2, 2, 9), generator=g)
    losses = LossConfig(
        pages=0.3 if config.num_levels > 1 else 0.0,
        gluing=0.3 if config.gluing else 0.0,
        exactness=0.3 if config.transitions != "none" else 0.0,
    )
    params = list(model.parameters())
    grads = torch.autograd.grad(
        training_loss(model, tokens, targets, losses)[0], params, allow_unused=True
    )
    ways = [torch.randn(p.shape, generator=g, dtype=p.dtype) for p in params]
    ends = []
    for sign in (1, -2, 1):
        with torch.no_grad():
            for p, way in zip(params, ways, strict=True):
                p.add_(sign * 1e-6 * way)
        ends.append(float(training_loss(model, tokens, targets, losses)[0].detach()))
    slope = (ends[0] - ends[1]) / 2e-6
    exact = sum(float((d * w).sum()) for d, w in zip(grads, ways, strict=True) if d is not None)
    assert slope == pytest.approx(exact, rel=1e-4, abs=1e-7)
    unused = [n for (n, _), d in zip(model.named_parameters(), grads, strict=True) if d is None]
    assert unused == []


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("window", [None, 2, 5])
def test_oracle_strided_windows_are_dense_masked_attention(stride, window):
    q, k, v = (drawn(i, 2, 3, 14, 4) for i in range(3))
    t = torch.arange(14)
    apart = t[:, None] - t[None]
    seen = (apart >= 0) & (apart % stride == 0)
    if window is not None:
        seen &= apart < window * stride
    dense = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=seen)
    torch.testing.assert_close(causal_attention(q, k, v, window, stride), dense)


def test_identity_an_exact_cochain_is_the_coboundary():
    """E¹ = δE⁰ read along a text is δ of the embedding; the identity as its map."""
    edges, embedding = Cochains(1, 2**16, 6, 6).double(), drawn(0, 5, 6)
    words = torch.cartesian_prod(torch.arange(5), torch.arange(5))
    rows = edges.rows_of(words)[0][:, 1]
    assert len(rows.unique()) == 25
    (into,), (table,) = edges.maps.parameters(), edges.tables.parameters()
    with torch.no_grad():
        into.copy_(torch.eye(6))
        table[rows] = embedding[words[:, 1]] - embedding[words[:, 0]]
    text = torch.randint(5, (2, 40), generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(edges(text)[:, 1:], coboundary(embedding[text])[:, 1:])


def test_identity_a_section_has_the_given_coboundary():
    """δ_A h = b, and h is the one solution of the sheaf's own complex."""
    a, b = torch.sigmoid(drawn(0, 2, 9, 3)), drawn(1, 2, 9, 3)
    h = section(a, b)
    torch.testing.assert_close(h - a * delayed(h), b, rtol=0, atol=1e-12)
    for row, channel in ((0, 0), (1, 2)):
        edges = torch.eye(9, dtype=a.dtype) - torch.diag(a[row, 1:, channel], -1)
        path = CochainComplex.of([edges.tolist()], Floats())
        assert path.betti_numbers() == (0, 0)
        torch.testing.assert_close(edges @ h[row, :, channel], b[row, :, channel])
    assert torch.autograd.gradcheck(section, (a.requires_grad_(), b.requires_grad_()))


@pytest.mark.parametrize("time", [1, 2, 7, 16])
def test_oracle_sections_at_once_are_those_token_by_token(monkeypatch, time):
    """What a device computes in log₂ t steps, forward and backward."""
    a = torch.sigmoid(drawn(0, 2, time, 3)).requires_grad_()
    b = drawn(1, 2, time, 3).requires_grad_()

    def found() -> tuple[torch.Tensor, ...]:
        h = section(a, b)
        return h, *torch.autograd.grad(h, (a, b), drawn(2, 2, time, 3))

    one_by_one = found()
    monkeypatch.setattr("leray.lm.recurrence._at_once", lambda _: True)
    torch.testing.assert_close(found(), one_by_one, rtol=0, atol=1e-14)


@pytest.mark.parametrize("window", [None, 3])
@pytest.mark.parametrize(("dtype", "close"), [(torch.float64, 1e-12), (torch.bfloat16, 0.02)])
def test_forgetting_is_a_product_over_the_tokens_between(window, dtype, close):
    """Oracle: the dense formula, factor by factor, in float64."""
    q, k, v = (drawn(i, 2, 3, 11, 8) for i in range(3))
    kept = torch.sigmoid(drawn(3, 2, 3, 11))
    across = torch.ones(2, 3, 11, 11, dtype=kept.dtype)
    for t in range(11):
        for s in range(t):
            across[..., t, s] = kept[..., s + 1 : t + 1].prod(-1)
    t, s = torch.arange(11)[:, None], torch.arange(11)
    seen = (s <= t) & (s > t - (window or 11))
    scores = torch.where(seen, across * (q @ k.mT / 8**0.5).exp(), 0.0)
    expected = scores @ v / scores.sum(-1, keepdim=True)
    more = forgetful(q.to(dtype), k.to(dtype), kept.log())
    y = causal_attention(*more, v.to(dtype), window)
    torch.testing.assert_close(y.double(), expected, rtol=0, atol=close)


def test_identity_a_cochain_of_degree_p_sees_p_tokens_before():
    read = Cochains(3, 64, 4, 5)
    tokens = torch.randint(9, (1, 20), generator=torch.Generator().manual_seed(2))
    other = tokens.clone()
    other[:, 8] += 1
    moved = (read(tokens) != read(other)).any(-1)[0].nonzero().flatten().tolist()
    assert moved == [8, 9, 10, 11]


def test_identity_the_gate_is_a_cup_product_where_it_is_linear():
    """a f − μ (δa ⌣ f), the cup product of a 1- and a 0-cochain by the coboundary of a path."""
    time, width = 7, 5
    x, wg, wv = drawn(0, 1, time, width), drawn(1, width, width), drawn(2, width, width)
    shift = Shift(width).double()
    with torch.no_grad():
        shift.weight.fill_(0.3)
    a, f = x @ wg, x @ wv
    # the path complex: edges (t−1, t) and one from nothing at the beginning
    d = torch.eye(time, dtype=torch.float64) - torch.eye(time, dtype=torch.float64).roll(1, 0)
    d[0, -1] = 0
    cup = torch.einsum("et,btc->bec", d, a) * f  # (δa)(t−1, t) · f(t): the later end of each edge
    torch.testing.assert_close((shift(x) @ wg) * f, a * f - 0.3 * cup)
    torch.testing.assert_close(coboundary(x), torch.einsum("et,btc->bec", d, x))


def test_identity_the_shift_is_that_of_rwkv():
    x, shift = drawn(0, 2, 6, 4), Shift(4).double()
    with torch.no_grad():
        shift.weight.copy_(torch.rand(4, generator=torch.Generator().manual_seed(1)))
    mu = shift.weight.detach()
    torch.testing.assert_close(shift(x).detach(), (1 - mu) * x + mu * delayed(x))
    torch.testing.assert_close(shift(x).detach(), x - mu * coboundary(x))


def test_oracle_a_short_convolution_is_torchs():
    x, layer = drawn(0, 2, 9, 4), ShortConvolution(4, 3).double()
    with torch.no_grad():
        layer.weight.copy_(drawn(1, 3, 4))
    weight = layer.weight.detach().flip(0).T[:, None]
    y = torch.nn.functional.conv1d(torch.nn.functional.pad(x.mT, (2, 0)), weight, groups=4).mT
    torch.testing.assert_close(layer(x).detach(), x + y)


def test_feed_forward_networks_have_equal_weights():
    sizes = [
        sum(p.numel() for p in FeedForward(96, default_hidden(96, kind), kind).parameters())
        for kind in ("relu2", "swiglu", "cup")
    ]
    assert max(sizes) - min(sizes) <= 96


@given(st.integers(1, 30), st.sampled_from([2, 4, 6]), st.integers(0, 99))
def test_identity_gluing_projects_onto_sections_that_agree(time, patch, seed):
    """On the overlap it is the least-squares projection; off it the only section there is."""
    q, k, v = (drawn(seed + i, 1, 2, time, 4) for i in range(3))
    glued, disagreement = glued_attention(q, k, v, patch)
    half = patch // 2
    one = patch_attention(q, k, v, patch)
    torch.testing.assert_close(glued[..., :half, :], one[..., :half, :])
    if time <= half:
        assert float(disagreement) == 0
        return
    other = patch_attention(q[..., half:, :], k[..., half:, :], v[..., half:, :], patch)
    both = torch.stack([one[..., half:, :].flatten(), other.flatten()])
    ones = torch.ones(2, 1, dtype=torch.float64)  # the diagonal: sections that agree
    best = torch.linalg.lstsq(ones, both).solution
    torch.testing.assert_close(glued[..., half:, :].flatten(), best[0])
    gone = both - ones @ best
    expected = 2 * gone.square().sum() / both.square().sum()
    torch.testing.assert_close(disagreement, expected)


def test_disagreement_has_no_scale():
    q, k, v = (drawn(i, 1, 2, 20, 4) for i in range(3))
    torch.testing.assert_close(
        glued_attention(q, k, v, 4)[1], glued_attention(q, k, 1e-6 * v, 4)[1]
    )


def test_softmax_obeys_inclusion_and_exclusion_where_outputs_do_not_glue():
    """m(U ∪ V) = m(U) + m(V) − m(U ∩ V) for numerators and denominators."""
    scores, values = drawn(0, 10).exp(), drawn(1, 10)
    u, v = set(range(7)), set(range(4, 10))

    def measure(keys: set[int]) -> torch.Tensor:
        at = sorted(keys)
        return torch.stack([scores[at].sum(), (scores[at] * values[at]).sum()])

    torch.testing.assert_close(measure(u | v), measure(u) + measure(v) - measure(u & v))
    mean = {name: m[1] / m[0] for name, m in (("u", measure(u)), ("all", measure(u | v)))}
    assert abs(float(mean["u"] - mean["all"])) > 1e-3


def test_oracle_a_memory_of_sections_attends_to_means_of_whole_blocks():
    q, k, v = (drawn(i, 1, 2, 10, 4) for i in range(3))
    memory = SectionMemory(2, 4, 3).double()
    with torch.no_grad():
        memory.gain.fill_(1.0)
        memory.empty.copy_(drawn(3, 2, 1, 4))
    found = memory(q, k, v).detach()
    for t in range(10):
        done = t // 3
        keys = [memory.empty.detach()[:, 0]] + [
            k[0, :, 3 * b : 3 * b + 3].mean(1) for b in range(done)
        ]
        values = [torch.zeros(2, 4, dtype=torch.float64)]
        values += [v[0, :, 3 * b : 3 * b + 3].mean(1) for b in range(done)]
        for h in range(2):
            a = torch.stack([q[0, h, t] @ key[h] / 2 for key in keys]).softmax(0)
            y = sum(w * value[h] for w, value in zip(a, values, strict=True))
            torch.testing.assert_close(found[0, h, t], y)


def test_identity_transitions_are_an_exact_complex():
    layer = ExactTransitions(8, 3).double()
    with torch.no_grad():
        layer.frames.add_(0.5 * drawn(0, 2, 8, 8))
        layer.first.add_(0.5 * drawn(3, 8, 4))
        layer.last.add_(0.5 * drawn(4, 8, 4))
        layer.middles.add_(drawn(1, 3, 4, 4))
    layer.retract()
    maps = layer.maps().detach()
    found = CochainComplex.of(list(maps), Floats()).betti_numbers()
    assert found[1:3] == (0, 0)
    assert float((maps[1:] @ maps[:-1]).abs().max()) < 1e-14
    x = drawn(2, 2, 5, 8)
    torch.testing.assert_close(layer(x, 1).detach(), x @ maps[1].mT)


@pytest.mark.parametrize("shape", [(9, 9), (2, 8, 8), (12, 5), (300, 300)])
def test_oracle_the_nearest_frame_is_the_polar_factor(shape):
    x = torch.linalg.qr(drawn(0, *shape)).Q + 0.05 * drawn(1, *shape)
    u, _, v = torch.linalg.svd(x, full_matrices=False)
    torch.testing.assert_close(nearest_frame(3 * x), u @ v, rtol=0, atol=1e-14)
    spread = u * torch.linspace(0.02, 1, u.shape[-1], dtype=x.dtype) @ v
    torch.testing.assert_close(nearest_frame(spread), u @ v, rtol=0, atol=1e-13)


def test_transitions_stay_a_complex_while_they_are_trained():
    """d d = 0 to 1e-12 in float64 after 100 steps of AdamW, and exact while middles have rank."""
    config = ModelConfig(
        num_tokens=NUM_TOKENS, width=8, num_layers=3, windows=(2, 4, 0), transitions="exact"
    )
    model = awake(config, 0)
    layer = model.transitions
    assert isinstance(layer, ExactTransitions)
    start = layer.maps().detach().clone()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    tokens = torch.randint(NUM_TOKENS, (4, 12), generator=torch.Generator().manual_seed(0))
    for _ in range(100):
        optimizer.zero_grad()
        model.loss(tokens[:, :-1], tokens[:, 1:]).backward()
        optimizer.step()
        layer.retract()
    maps = layer.maps().detach()
    assert float((maps - start).norm()) > 0.1
    assert float((maps[1] @ maps[0]).abs().max()) < 1e-12
    assert int(torch.linalg.matrix_rank(maps[0]) + torch.linalg.matrix_rank(maps[1])) == 8


def test_the_exactness_loss_knows_exact_maps_and_no_scale():
    q = torch.linalg.qr(drawn(0, 6, 6)).Q
    exact = torch.stack([q[:, :3] @ q[:, 3:].T, q[:, :3] @ q[:, 3:].T])
    plain = drawn(1, 2, 6, 6)
    assert float(exactness_loss(exact)) < 0.05
    assert float(exactness_loss(plain)) > 0.2
    torch.testing.assert_close(exactness_loss(1e-3 * plain), exactness_loss(plain))
    assert float(exactness_loss(torch.zeros(2, 6, 6, dtype=torch.float64))) == pytest.approx(1.0)


def test_disagreement_of_a_constant_text_is_nothing():
    """A constant section of a constant sheaf is global: attention returns it, and A v − v = 0."""
    config = ModelConfig(num_tokens=NUM_TOKENS, width=8, values="disagreement")
    attention = next(m for m in awake(config, 0).modules() if isinstance(m, Attention))
    x = drawn(1, 1, 1, 8).expand(1, 9, 8)

    assert float(attention(x, Carried(turns_of(9, 4, 100.0, x))).abs().max().detach()) < 1e-12


def test_rotated_values_are_a_flat_transport():
    """Turning by s and back by t is turning by s − t, whatever the way."""
    x = drawn(0, 9, 8)
    turns = turns_of(9, 8, 50.0, x)
    torch.testing.assert_close(rotated(rotated(x, turns), turns, -1), x)


def test_what_a_pass_shows_of_itself():
    config = ModelConfig(
        num_tokens=NUM_TOKENS, width=8, num_layers=3, windows=(2, 4, 0), gluing=True, routing=True
    )
    watch = defaultdict(list)
    awake(config, 0)(torch.zeros(1, 12, dtype=torch.int64), watch)
    assert len(watch["levels"]) == 2
    assert len(watch["disagreement"]) == 2
    assert all(0 < float(x) < 1 for x in (y.detach() for y in watch["load"]))


@pytest.mark.parametrize("choice", [{}, {"values": "tied_disagreement"}, {"feedforward": "cup"}])
def test_oracle_operations_are_those_that_torch_counts(choice):
    """`FlopCounterMode` counts matrix products of one forward pass; attention it takes whole."""
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    config = ModelConfig(num_tokens=32, width=32, num_layers=2, **choice)
    model, context = Model(config, torch.Generator().manual_seed(0)), 16
    tokens = torch.zeros(1, context, dtype=torch.int64)
    counter = FlopCounterMode(display=False)
    with counter, sdpa_kernel(SDPBackend.MATH):
        model(tokens).sum().backward()
    dense = 12 * config.width * config.num_layers * (context - mean_context(context, None))
    first = 2 * 3 * config.width**2  # the first layer's input needs a gradient too: counted
    ours = (train_flops_per_token(model, context) + dense) * context
    assert counter.get_total_flops() == pytest.approx(ours, rel=first * context / ours)


@pytest.mark.parametrize(
    ("choices", "said"),
    [
        ({"num_reflections": 3}, "num_reflections has no effect without positions = transport"),
        ({"kernel": 3}, "kernel has no effect without mixing = convolution"),
        ({"gluing": True}, "gluing has no effect without a window"),
        ({"transitions": "exact"}, "transitions has no effect without two windows"),
        ({"gluing": True, "windows": (4,), "strides": (2,)}, "leave strides out"),
        ({"windows": (-1,)}, "windows must hold one number ≥ 0"),
    ],
)
def test_switches_without_effect_are_refused(choices, said):
    with pytest.raises(ValueError, match=said):
        ModelConfig(num_tokens=3, **choices)


def test_losses_without_effect_are_refused():
    config = ModelConfig(num_tokens=3)
    for name in ("pages", "gluing", "exactness"):
        with pytest.raises(ValueError, match=f"the loss '{name}' has no effect"):
            LossConfig(**{name: 0.1}).check(config)  # pyright: ignore[reportArgumentType]
