"""The compiled networks compute what torch computes."""

from __future__ import annotations

from itertools import pairwise, product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from leray.memory.network_kernel import LANES, POOL, STRIDE, loss_gradient
from leray.memory.networks import (
    ACTIVATIONS,
    HIDDEN,
    KINDS,
    LOSSES,
    Candidate,
    Loss,
    Minibatches,
    Population,
    Sample,
)

NO_POOL = np.zeros(POOL, np.uint8)
# Sums of some 500 products of float32 in another order: a few hundred units of 6e-8 of the largest.
RTOL = 3e-5


def sample(num_rows: int = 500, seed: int = 0) -> Sample:
    """Standard normal signals, a nonlinear truth, and weights between 1 and 5."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(4, num_rows)).astype(np.float32)
    y = x[0] + x[1] * x[2] + rng.normal(size=num_rows) > 1
    return Sample(x=x, y=y, weight=np.where(y, 1.0, rng.uniform(2, 5, num_rows)))


def candidate(hidden: tuple[int, ...], activation: str, dropout: float = 0.0) -> Candidate:
    return Candidate(hidden=hidden, dropout=dropout, learning_rate=0.01, activation=activation)


def gradient(
    population: Population, params: np.ndarray, rows: Sample, loss: Loss, pool: np.ndarray = NO_POOL
) -> tuple[float, np.ndarray]:
    """Ours, of the first network, on one minibatch."""
    data = Minibatches(rows).shuffled(np.random.default_rng(1))
    assert len(data) == 1
    g = np.zeros(len(params), np.float32)
    work = np.zeros(200 * STRIDE, np.float32)
    value = loss_gradient(
        data.reshape(-1), np.uintp(0), params, np.uintp(0), population.widths[0],
        population.dropped[0], population.activations[0], KINDS[loss], pool, 0, work, g,
    )  # fmt: skip
    return value, g


def torch_model(population: Population, params: np.ndarray) -> torch.nn.Sequential:
    """The same network, in float64."""
    c = population.candidates[0]
    phi = {"relu": torch.nn.ReLU, "tanh": torch.nn.Tanh, "elu": torch.nn.ELU}[c.activation]
    layers: list[torch.nn.Module] = []
    place = 0
    for fan_in, units in pairwise((population.num_inputs, *c.hidden, 1)):
        layer = torch.nn.Linear(fan_in, units, dtype=torch.float64)
        size = fan_in * units
        own = torch.from_numpy(params[place : place + size + units].astype(np.float64))
        layer.weight.data = own[:size].reshape(units, fan_in).clone()
        layer.bias.data = own[size:].clone()
        layers += [layer, phi()]
        place += size + units
    return torch.nn.Sequential(*layers[:-1])


def torch_loss(model: torch.nn.Sequential, rows: Sample, loss: Loss) -> torch.Tensor:
    x, y = torch.from_numpy(rows.x.T.astype(np.float64)), torch.from_numpy(rows.y.astype(float))
    w = torch.from_numpy(rows.weight / rows.weight.sum())
    f = model(x)[:, 0]
    if loss == "logistic":
        return torch.nn.functional.binary_cross_entropy_with_logits(f, y, w, reduction="sum")
    f, y = f - w @ f, y - w @ y
    return -(w @ (f * y)) / torch.sqrt((w @ f**2) * (w @ y**2))


def torch_gradient(model: torch.nn.Sequential, loss: torch.Tensor) -> np.ndarray:
    return np.concatenate(
        [g.numpy().ravel() for g in torch.autograd.grad(loss, list(model.parameters()))]
    )


@pytest.mark.parametrize(("loss", "activation"), [*product(LOSSES, ACTIVATIONS)])
@pytest.mark.parametrize("hidden", HIDDEN)
def test_the_gradient_is_torchs(hidden: tuple[int, ...], activation: str, loss: Loss) -> None:
    """Oracle: autograd in float64."""
    rows = sample()
    population = Population([candidate(hidden, activation)], 4)
    params = population.draw(0.1, np.random.default_rng(2))
    value, g = gradient(population, params, rows, loss)
    model = torch_model(population, params)
    expected = torch_loss(model, rows, loss)
    assert value == pytest.approx(expected.item(), rel=RTOL)
    exact = torch_gradient(model, expected)
    np.testing.assert_allclose(g, exact, rtol=0, atol=RTOL * np.abs(exact).max())


@pytest.mark.parametrize("loss", LOSSES)
def test_steps_of_adam_are_torchs(loss: Loss) -> None:
    """Oracle: torch.optim.Adam, three steps on one minibatch, from parameters well off zero."""
    rows = sample()
    population = Population([candidate((16, 8), "tanh")], 4)
    params = population.draw(0.1, np.random.default_rng(3))
    model = torch_model(population, params)
    optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
    ours, first, second = params.copy(), np.zeros_like(params), np.zeros_like(params)
    for epoch in range(3):
        population.train(
            ours, first, second, np.array([0]), rows, loss, range(epoch, epoch + 1),
            np.random.default_rng(1),
        )  # fmt: skip
        optimiser.zero_grad()
        torch_loss(model, rows, loss).backward()
        optimiser.step()
    theirs = np.concatenate([p.detach().numpy().ravel() for p in model.parameters()])
    # A step is at most the rate; where a slope is near rounding its sign decides, so a hundredth
    # of three steps is allowed; the output's bias, whose slope under r is rounding, is left out.
    end = -1 if loss == "pearson" else None
    np.testing.assert_allclose(ours[:end], theirs[:end], rtol=0, atol=3e-4)
    assert np.abs(ours - params).max() > 0.02


def test_under_pearson_the_output_bias_stays() -> None:
    """Identity: r does not depend on it."""
    rows = sample()
    population = Population([candidate((8,), "relu")], 4)
    params = population.draw(0.25, np.random.default_rng(3))
    ours = params.copy()
    moments = np.zeros_like(params), np.zeros_like(params)
    rng = np.random.default_rng(0)
    population.train(ours, *moments, np.array([0]), rows, "pearson", range(5), rng)
    assert ours[-1] == params[-1]
    assert np.abs(ours - params).max() > 0.01


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31), activation=st.sampled_from(ACTIVATIONS))
def test_the_order_of_hidden_units_does_not_matter(seed: int, activation: str) -> None:
    """Identity: rows of W₁, b₁ and columns of W₂ permuted alike leave loss and slopes alike."""
    rng = np.random.default_rng(seed)
    population = Population([candidate((16, 8), activation)], 4)
    params = population.draw(0.0, rng)
    order = rng.permutation(16)
    W1, b1, W2 = params[:64].reshape(16, 4), params[64:80], params[80:208].reshape(8, 16)
    moved = np.concatenate([W1[order].ravel(), b1[order], W2[:, order].ravel(), params[208:]])
    rows = sample(seed=seed)
    for loss in LOSSES:
        value, g = gradient(population, params, rows, loss)
        again, h = gradient(population, moved, rows, loss)
        assert again == pytest.approx(value, abs=1e-5)
        scale = np.abs(g).max()
        np.testing.assert_allclose(h[:64].reshape(16, 4), g[:64].reshape(16, 4)[order], rtol=0,
                                   atol=RTOL * scale)  # fmt: skip
        np.testing.assert_allclose(h[208:], g[208:], rtol=0, atol=RTOL * scale)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_slopes_under_dropout_are_those_of_the_masked_network(activation: str) -> None:
    """Oracle: differences of the loss with the masks held, along a random direction.

    Central differences at h = 1e-2 of float32 losses of size .1: rounding 1e-7/1e-2, curvature
    h² — both far below the 2% asked for.
    """
    rows, rng = sample(), np.random.default_rng(5)
    population = Population([candidate((16, 8), activation, dropout=0.3)], 4)
    params = population.draw(0.1, rng)
    pool = rng.integers(0, 256, POOL, dtype=np.uint8)
    _, g = gradient(population, params, rows, "logistic", pool)
    along = g / np.linalg.norm(g)
    h = np.float32(1e-2)
    up, down = (gradient(population, params + k * along, rows, "logistic", pool)[0]
                for k in (h, -h))  # fmt: skip
    assert (up - down) / (2 * h) == pytest.approx(float(along @ g), rel=0.02)
    plain, _ = gradient(population, params, rows, "logistic")
    masked, _ = gradient(population, params, rows, "logistic", np.full(POOL, 255, np.uint8))
    assert masked != pytest.approx(plain, rel=1e-3)


def test_dropout_keeps_the_mean_and_its_rate() -> None:
    """Statistical: with a linear read-out the mean output under masks is the output without.

    A hidden unit of 1 and a read-out of 1/16 of each unit: a row's output is a mean of 16 masks,
    variance p/(1−p)/16; the loss is read at y = 0, where its slope is σ(f).
    """
    population = Population([candidate((16,), "relu", dropout=0.2)], 4)
    params = np.zeros(97, np.float32)
    params[64:80], params[80:96] = 1.0, 1 / 16
    rng = np.random.default_rng(0)
    rows = Sample(x=np.zeros((4, 500), np.float32), y=np.zeros(500, bool), weight=np.ones(500))
    work, g = np.zeros(40 * STRIDE, np.float32), np.zeros(97, np.float32)
    data = Minibatches(rows).shuffled(rng)
    seen = []
    for seed in range(200):
        pool = rng.integers(0, 256, POOL, dtype=np.uint8)
        loss_gradient(
            data.reshape(-1), np.uintp(0), params, np.uintp(0), population.widths[0],
            population.dropped[0], 0, KINDS["logistic"], pool, seed, work, g,
        )  # fmt: skip
        # The slope of a unit's read-out is Σ_t σ(f_t)/500 times what the unit said: 0 or 1/(1−p).
        seen.append(g[80:96].sum() / 16 / g[96])
    p = population.dropped[0] / 256
    assert p == pytest.approx(0.2, abs=1 / 512)
    # One mask has standard deviation √(p/(1−p)) = .5; 200 × 16 × 500 of them, and rows of larger
    # output weigh more: Cov(σ(f), mask mean)/E σ = (1 − σ(1)) p/(1−p)/16.
    tilt = (1 - 1 / (1 + np.exp(-1))) * p / (1 - p) / 16
    assert np.mean(seen) == pytest.approx(1 + tilt, abs=5 * 0.5 / np.sqrt(200 * 16 * 500) + 1e-4)


def test_minibatches_hold_every_row_once_with_its_stratum_shared_out() -> None:
    """Identity: a partition; each minibatch has the same number of relevant rows, ±1."""
    rows = sample(2_345)
    data = Minibatches(rows).shuffled(np.random.default_rng(0))
    weight = data[:, 5, :LANES]
    kept = weight > 0
    assert len(data) == 5
    assert kept.sum() == 2_345
    np.testing.assert_array_equal(np.sort(data[:, 0, :LANES][kept]), np.sort(rows.x[0]))
    positives = (data[:, 4, :LANES] * kept).sum(axis=1)
    assert np.ptp(positives) <= 1
    assert positives.sum() == rows.y.sum()


def test_networks_trained_together_are_those_trained_alone() -> None:
    """Identity: bit for bit."""
    space = [candidate((8,), "relu", 0.1), candidate((), "relu"), candidate((32, 16), "elu", 0.2)]
    rows = sample(1_000)
    together = Population(space, 4)
    params = together.draw(0.0, np.random.default_rng(0))
    drawn = params.copy()
    moments = np.zeros_like(params), np.zeros_like(params)
    rng = np.random.default_rng(1)
    together.train(params, *moments, np.arange(3), rows, "pearson", range(3), rng)
    for k, c in enumerate(space):
        own = drawn[together.own(k)].copy()
        m = np.zeros_like(own), np.zeros_like(own)
        rng = np.random.default_rng(1)
        Population([c], 4).train(own, *m, np.array([0]), rows, "pearson", range(3), rng)
        np.testing.assert_array_equal(own, params[together.own(k)])


def test_training_can_stop_and_go_on() -> None:
    """Identity: epochs 0–1 then 2–3, with the same draws, are epochs 0–3, bit for bit."""
    rows, population = sample(1_000), Population([candidate((16,), "tanh", 0.1)], 4)

    def trained(*pieces: range) -> np.ndarray:
        params = population.draw(0.0, np.random.default_rng(0))
        first, second = np.zeros_like(params), np.zeros_like(params)
        rng = np.random.default_rng(1)
        for epochs in pieces:
            population.train(params, first, second, np.array([0]), rows, "logistic", epochs, rng)
        return params

    np.testing.assert_array_equal(trained(range(2), range(2, 4)), trained(range(4)))


def test_what_is_not_alive_does_not_move() -> None:
    """Identity."""
    population = Population([candidate((8,), "relu"), candidate((8,), "tanh")], 4)
    params = population.draw(0.0, np.random.default_rng(0))
    before = params.copy()
    moments = np.zeros_like(params), np.zeros_like(params)
    rng = np.random.default_rng(1)
    population.train(params, *moments, np.array([1]), sample(), "pearson", range(1), rng)
    np.testing.assert_array_equal(params[population.own(0)], before[population.own(0)])
    assert (params[population.own(1)] != before[population.own(1)]).any()
