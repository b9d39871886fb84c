"""What an ability needs of each weight, against what follows from the definition."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from leray.circuits.importance import (
    factors,
    fisher,
    graded,
    one_mask,
    sensitivity,
    turned_zones,
    zones,
)
from leray.circuits.zones import Turned
from leray.errors import LerayError


@pytest.fixture(autouse=True)
def seeded():
    """Draws that do not depend on what ran before."""
    torch.manual_seed(0)


def softmax_regression(seed=0, into=5, classes=3):
    generator = torch.Generator().manual_seed(seed)
    model = nn.Linear(into, classes, bias=False).double()
    with torch.no_grad():
        model.weight.copy_(torch.randn(classes, into, generator=generator))
    return model, torch.randn(40, 1, into, generator=generator, dtype=torch.float64)


def exact_information(model, x):
    """Of one example of softmax regression: (diag p − p pᵀ) ⊗ x xᵀ."""
    p = model(x).softmax(dim=-1)[0].detach()
    return (torch.diag(p) - torch.outer(p, p)), x[0]


def test_oracle_the_diagonal_is_that_of_softmax_regression():
    """Within four standard errors: labels are drawn, 400 times for every example."""
    model, examples = softmax_regression()
    generator = torch.Generator().manual_seed(1)
    draws = torch.stack([
        fisher(model, list(examples), model, generator)["weight"] for _ in range(400)
    ])  # fmt: skip
    oracle = torch.zeros_like(model.weight)
    for x in examples:
        g, row = exact_information(model, x)
        oracle += g.diagonal()[:, None] * row.square() / len(examples)
    error = draws.std(dim=0) / 400**0.5
    assert ((draws.mean(dim=0) - oracle).abs() < 4 * error).all()


def test_oracle_sensitivity_is_the_mean_size_of_a_gradient():
    model, examples = softmax_regression()
    found = sensitivity(model, list(examples), model)["weight"]
    rows = [2 * model(x)[0][:, None] * x[0] for x in examples]
    torch.testing.assert_close(found, torch.stack(rows).abs().mean(dim=0).detach())


def test_oracle_factors_are_the_second_moments_of_input_and_gradient():
    """Their eigenvectors and values give the moments back; the model is left without gradients."""
    model, examples = softmax_regression()
    together = [examples[:20, 0], examples[20:, 0]]
    found = factors(model, together, model, torch.Generator().manual_seed(0))["weight"]
    lam = found.into @ torch.diag(found.lam) @ found.into.mT
    torch.testing.assert_close(lam, examples[:, 0].mT @ examples[:, 0])
    generator = torch.Generator().manual_seed(0)
    g = torch.cat([
        model(x).softmax(-1).detach()
        - torch.eye(3, dtype=torch.float64)[
            torch.multinomial(model(x).detach().softmax(-1), 1, generator=generator)[:, 0]
        ]
        for x in together
    ])  # fmt: skip
    assert found.out is not None
    torch.testing.assert_close(found.out @ torch.diag(found.gamma) @ found.out.mT, g.mT @ g)
    assert model.weight.grad is None
    assert found.information.shape == model.weight.shape


class Bag(nn.Module):
    """The sum of the embeddings of some tokens, read by a linear map."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.embedding = nn.Embedding(6, 4).double()
        self.out = nn.Linear(4, 3, bias=False).double()
        with torch.no_grad():
            for p in self.parameters():
                p.copy_(torch.randn(p.shape, generator=generator))

    def forward(self, tokens):
        return self.out(self.embedding(tokens).sum(dim=1))


def test_oracle_factors_of_an_embedding():
    """How often each token came, and the second moment of the gradient at every token; what came
    never may move as it likes, and so may, of all tokens, what the map behind does not read."""
    model, tokens = Bag(), torch.tensor([[0, 1, 1], [1, 2, 4], [4, 4, 0]])
    with torch.no_grad():
        model.out.weight[:, 3] = 0
    found = factors(model, [tokens], model, torch.Generator().manual_seed(0))["embedding.weight"]
    assert found.out is None
    assert found.gamma.tolist() == [2, 3, 1, 0, 3, 0]
    p = model(tokens).softmax(dim=-1).detach()
    drawn = torch.multinomial(p, 1, generator=torch.Generator().manual_seed(0))[:, 0]
    g = (p - nn.functional.one_hot(drawn, 3)) @ model.out.weight.detach()
    moment = 3 * g.mT @ g  # every text has three tokens
    torch.testing.assert_close(found.into @ torch.diag(found.lam) @ found.into.mT, moment)
    own = fisher(model, [tokens], model, torch.Generator().manual_seed(0))
    share = turned_zones(own, {"embedding.weight": found}, 1e-9)["embedding.weight"]
    assert isinstance(share, Turned)
    update = torch.randn(6, 4, dtype=torch.float64)
    moved = share.scaled(share.turned(update))
    torch.testing.assert_close(moved[[3, 5]], update[[3, 5]])
    torch.testing.assert_close(moved[:, 3], update[:, 3])
    felt = moved[[0, 1, 2, 4]] @ g.mT
    assert felt.norm() < 1e-6 * (update @ g.mT).norm()


def test_identity_what_is_never_read_may_move_freely():
    """Inputs in a subspace: directions beside it have share 1, and what a softmax cannot feel.

    That is one number added to all logits.
    """
    model, examples = softmax_regression()
    basis = torch.linalg.qr(torch.randn(5, 2, dtype=torch.float64))[0]
    inside = [(x @ basis @ basis.mT) for x in examples]
    own = fisher(model, inside, model, torch.Generator().manual_seed(0))
    kronecker = factors(model, inside, model, torch.Generator().manual_seed(0))
    share = turned_zones(own, kronecker, 1e-9)["weight"]
    assert isinstance(share, Turned)
    update = torch.randn(3, 5, dtype=torch.float64)
    moved = share.scaled(share.turned(update))
    beside = torch.eye(5, dtype=torch.float64) - basis @ basis.mT
    # what is never read has an information of some roundings, 1e-16, over τ
    torch.testing.assert_close(moved @ beside, update @ beside, rtol=1e-5, atol=1e-5)
    changed, free = (torch.stack([m @ x[0] for x in inside]) for m in (moved, update))
    felt = changed - changed.mean(dim=1, keepdim=True)
    assert felt.norm() < 1e-6 * free.norm()
    torch.testing.assert_close(changed.mean(dim=1), free.mean(dim=1), rtol=1e-5, atol=1e-5)
    flat = zones(own, 1e-9)["weight"]
    assert isinstance(flat, torch.Tensor)
    assert float(flat.max()) < 1  # every coordinate is read: none may move all of its way


def test_masks_are_as_large_as_the_zones_they_stand_for():
    information = torch.rand(30, 20, generator=torch.Generator().manual_seed(0)) ** 8
    shares = graded(information, 1e-3)
    mask = one_mask(information, float(shares.mean()))
    assert abs(float(mask.mean() - shares.mean())) <= 1 / 600
    assert float(information[mask == 0].min()) >= float(information[mask == 1].max())
    own = {"w": information}
    torch.testing.assert_close(zones(own, 1e-3, graduated=False)["w"], mask)
    assert torch.equal(graded(torch.zeros(3), 1.0), torch.ones(3))
    assert float(graded(information, 1e-3)[information == information.max()]) == pytest.approx(
        1 / 1001, rel=1e-4
    )


def test_abilities_that_say_nothing():
    model, examples = softmax_regression()
    generator = torch.Generator()
    for found in (
        lambda: fisher(model, [], model, generator),
        lambda: factors(model, [], model, generator),
    ):
        with pytest.raises(LerayError, match="an ability needs examples: none came"):
            found()
    with pytest.raises(LerayError, match="gradients are not finite"):
        sensitivity(model, [examples[0] * float("inf")], model)
    with pytest.raises(LerayError, match="tau must be above 0; got 0"):
        graded(torch.ones(2), 0.0)
