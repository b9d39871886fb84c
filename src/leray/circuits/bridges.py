"""Bridges: weights that several capabilities need, beyond what sizes predict.

A capability is a function that gives the model's logits on its examples, as its weights are when it
is called. Setting the weights of a set G to 0 costs capability j a share of what it knows,

    C_j(G) = mean_x KL(p(· | x) ‖ p without G) / I_j,   I_j = mean_x KL(p(· | x) ‖ mean_x p(· | x)),

to second order ½ wᵀ F_j w / I_j over the weights w of G, with F_j the Fisher information. That
alone says what happens when a weight moves: it is large on a connection that is 0 and unused. C is
0 there, and stays the same when a rectified unit's inputs are scaled up and its outputs down.

One weight by itself is a poor witness. In a basis in which no direction belongs to one capability,
an entry of what a unit writes, removed alone, disturbs them all, though they do not need the unit.
So the slices are asked too that lie through the weight, a matrix's row and column: with s the least
of their costs and a the lesser of s and the weight's own, need is the geometric mean

    N_j = (a s²)^⅓.

A bridge is needed by r capabilities: its statistic T is the r-th largest of its needs. By chance T
is large too where many weights are needed. The null: within a stratum, weights of one tensor and of
about one size, each capability's needs lie independently of where the others' do. With α_j(t) the
share of the stratum that j needs by t or more,

    P(T ≥ t) = P(at least r of independent events of chances α_1(t), …, α_k(t) come true),

a Poisson-binomial tail, without drawing; the score is T − E T, a share of a capability. Where each
capability needs a seventh of a stratum, two of six coincide on a fifth of it by chance, and no one
weight's p-value is small: the score says where bridges are, and q-values mean something only where
capabilities need little of a model.

Shapes: k capabilities, n examples, c answers, m weights in one row (parameters in the order of
``model.named_parameters()``, each flattened), s weights of a stratum.

Source: LeCun et al., Optimal brain damage (1990), for ½ w² F; Benjamini and Heller, Screening for
partial conjunction hypotheses (Biometrics 2008), for the r-th of several as the test that r of them
hold. Theirs combines p-values; ours keeps the needs, since ranks forget how far needs lie apart.
The slices and the exponent are ours (docs/log.md, 2026-11-23).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from scipy.stats import false_discovery_control
from torch import Tensor, nn

from leray.errors import LerayError

Answers = Callable[[], Tensor]
"""Logits ``[n, c]`` of the model on a capability's examples, with its weights as they are."""
CHUNK = 64
"""Gradients taken at once."""


def needs_of(model: nn.Module, answers: Sequence[Answers]) -> Float[Tensor, "k m"]:
    """N of every capability and weight, to second order, with the exact expectation over answers.

    Args:
        answers: One a capability; differentiable in all weights of the model.

    Raises:
        LerayError: No capabilities, logits that are no finite table, weights that do not require
            their gradient, or answers that do not depend on the example, of which nothing can be
            lost.

    Cost: n c gradients a capability, ``CHUNK`` at once.
    """
    weights = list(model.parameters())
    if not all(p.requires_grad for p in weights):
        raise LerayError("every weight must require its gradient; call model.requires_grad_()")
    found = [_least_costs(x, weights) / (2 * known) for x, known in _clean(answers)]
    return torch.stack(found).cpu()


@torch.no_grad()
def lost_without(
    model: nn.Module, answers: Sequence[Answers], removed: Bool[Tensor, " m"]
) -> Float[Tensor, " k"]:
    """The share of what each capability knows that goes when these weights are 0 together.

    It is above 1 where what is left misleads.

    Raises:
        LerayError: As `needs_of`, but for gradients.
    """
    return _lost(model, answers, _clean(answers), removed.nonzero()[:, 0])


@dataclass(frozen=True, slots=True)
class Bridges:
    """How much several capabilities need each weight.

    Args:
        statistic: T, the r-th largest need.
        expected: E T under the null, by stratum.
        p_value: P(T ≥ t) under the null, of every weight by itself.
        q_value: The false discovery rate at which it would be called a bridge (Benjamini and
            Hochberg), were needs independent. Weights of one unit are needed together, and of
            those called at .05 a third was no planted bridge (docs/circuits.md).
    """

    statistic: Float[Tensor, " m"]
    expected: Float[Tensor, " m"]
    p_value: Float[Tensor, " m"]
    q_value: Float[Tensor, " m"]

    @property
    def score(self) -> Float[Tensor, " m"]:
        """T − E T: what several capabilities need it by, beyond what chance would give."""
        return self.statistic - self.expected


def find_bridges(
    needs: Float[Tensor, "k m"], strata: Int[Tensor, "..."], several: int = 2
) -> Bridges:
    """Which weights at least ``several`` capabilities need, beyond what their sizes predict.

    Args:
        needs: Of every capability and weight; sums over weights, say of a unit, do as well.
        strata: Numbers from `size_strata`.
        several: r.

    Raises:
        LerayError: An r that is not 2 to k, needs that are negative or not finite, or other shapes.

    Cost: k² log s a weight.
    """
    k, m = needs.shape
    if not 2 <= several <= k:
        raise LerayError(f"several must be 2 to {k}, the number of capabilities; got {several}")
    if strata.shape != (m,):
        raise LerayError(f"strata must be [{m}], one a weight; got {list(strata.shape)}")
    if not bool((needs.isfinite() & (needs >= 0)).all()):
        raise LerayError("needs must be finite and 0 or more")
    statistic = needs.topk(several, dim=0).values[-1]
    expected, p_value = torch.zeros(m, dtype=torch.float64), torch.ones(m, dtype=torch.float64)
    for stratum in range(int(strata.max()) + 1):
        at = (strata == stratum).nonzero()[:, 0]
        own = needs[:, at].sort(dim=1).values
        levels = own.flatten().unique()
        tails = _tail(_at_least(own, levels), several)
        steps = torch.diff(levels.double(), prepend=levels.new_zeros(1).double())
        expected[at] = (tails * steps).sum()
        p_value[at] = tails[torch.searchsorted(levels, statistic[at])]
    q_value = torch.from_numpy(false_discovery_control(p_value.numpy()))
    return Bridges(statistic, expected.to(needs), p_value, q_value)


def size_strata(model: nn.Module, num: int = 200) -> Int[Tensor, " m"]:
    """Weights of one tensor in groups of about ``num``, in the order of their absolute values.

    Raises:
        LerayError: A number below 2.
    """
    if num < 2:
        raise LerayError(f"a stratum has 2 weights or more; got num={num}")
    found, next_one = [], 0
    for p in model.parameters():
        groups = max(1, round(p.numel() / num))
        ranks = p.detach().abs().flatten().cpu().argsort().argsort()
        found.append(next_one + ranks * groups // p.numel())
        next_one += groups
    return torch.cat(found)


@dataclass(frozen=True, slots=True)
class Dependence:
    """The map of which capability depends on which.

    Args:
        lost: ``[i, j]``, the share of what j knows that goes with the weights that i needs most.
        by_chance: The same of random weights, as many of each stratum; mean over draws.
        deviation: Standard deviation over draws.
    """

    lost: Float[Tensor, "k k"]
    by_chance: Float[Tensor, "k k"]
    deviation: Float[Tensor, "k k"]

    @property
    def beyond(self) -> Float[Tensor, "k k"]:
        """What is lost beyond chance."""
        return self.lost - self.by_chance


def dependence(
    model: nn.Module,
    answers: Sequence[Answers],
    needs: Float[Tensor, "k m"],
    strata: Int[Tensor, " m"],
    generator: torch.Generator,
    *,
    share: float = 0.01,
    num_draws: int = 20,
) -> Dependence:
    """What is lost of j when the weights that i needs most are removed, and at random.

    Args:
        share: Of all weights, how many are removed.

    Raises:
        LerayError: As `lost_without`; a share that is not above 0 and below 1, or fewer
            than two draws.

    Cost: k (1 + num_draws) passes over all examples.
    """
    if not 0 < share < 1 or num_draws < 2:
        raise LerayError(
            f"share must be above 0 and below 1, num_draws 2 or more; got {share:g}, {num_draws}"
        )
    num = max(1, round(share * needs.shape[1]))
    found = []
    for own in needs:
        most = torch.zeros(len(own), dtype=torch.bool)
        most[own.argsort(descending=True)[:num]] = True
        drawn = [most, *(_alike(most, strata, generator) for _ in range(num_draws))]
        found.append(torch.stack([lost_without(model, answers, x) for x in drawn]))
    lost = torch.stack(found)
    return Dependence(lost[:, 0], lost[:, 1:].mean(dim=1), lost[:, 1:].std(dim=1))


def _clean(answers: Sequence[Answers]) -> list[tuple[Tensor, Tensor]]:
    """Of every capability its logits, and what it knows in nats."""
    if not answers:
        raise LerayError("bridges are between capabilities: none came")
    found = []
    for i, ask in enumerate(answers):
        logits = ask()
        if logits.ndim != 2 or not bool(logits.isfinite().all()):
            raise LerayError(
                f"capability {i}: logits must be finite and [examples, answers]; got shape "
                f"{list(logits.shape)}"
            )
        log_p = logits.detach().log_softmax(dim=-1)
        known = _divergence(log_p, log_p.exp().mean(dim=0, keepdim=True).log())
        if not known > 1e-6:
            raise LerayError(
                f"capability {i}: its answers do not depend on its {len(logits)} examples "
                f"({float(known):.1e} nats), so that nothing of it can be lost"
            )
        found.append((logits, known))
    return found


def _divergence(log_p: Tensor, log_q: Tensor) -> Tensor:
    """mean KL(p ‖ q)."""
    return (log_p.exp() * (log_p - log_q)).sum(dim=-1).mean().clamp(min=0)


def _least_costs(logits: Float[Tensor, "n c"], weights: list[nn.Parameter]) -> Float[Tensor, " m"]:
    """(a s²)^⅓ of every weight, with wᵀ F w as the cost."""
    n, c = logits.shape
    p = logits.detach().softmax(dim=-1)
    # √p_a (e_a − p) in the logits is √p_a ∇ log p_a
    felt = p.sqrt()[:, :, None] * (torch.eye(c).to(p) - p[:, None, :])
    alone = [torch.zeros_like(w) for w in weights]
    slices = [[torch.zeros(s).to(w) for s in w.shape] for w in weights]
    for rows in torch.arange(n * c).split(CHUNK):
        seeds = torch.zeros(len(rows), n, c).to(p)
        seeds[torch.arange(len(rows)), rows // c] = felt[rows // c, rows % c]
        gradients = torch.autograd.grad(
            logits, weights, seeds, retain_graph=True, is_grads_batched=True, allow_unused=True
        )
        for w, g, own, along in zip(weights, gradients, alone, slices, strict=True):
            if g is None:
                continue
            moved = g * w.detach()
            own.add_(moved.square().sum(dim=0))
            for axis, total in enumerate(along):
                others = [i + 1 for i in range(w.ndim) if i != axis]
                total.add_((moved.sum(dim=others) if others else moved).square().sum(dim=0))
    found = []
    for own, along in zip(alone, slices, strict=True):
        least = torch.full_like(own, torch.inf)
        for axis, total in enumerate(along):
            least = least.minimum(total.view([-1 if i == axis else 1 for i in range(own.ndim)]))
        found.append((least.minimum(own) * least.square()).pow(1 / 3).flatten() / n)
    return torch.cat(found)


def _lost(
    model: nn.Module,
    answers: Sequence[Answers],
    clean: list[tuple[Tensor, Tensor]],
    removed: Int[Tensor, " e"],
) -> Float[Tensor, " k"]:
    """What goes with these weights, which are put back."""
    kept, start = [], 0
    for p in model.parameters():
        own = removed[(removed >= start) & (removed < start + p.numel())] - start
        start += p.numel()
        if len(own):
            flat = p.data.view(-1)  # contiguous, as parameters are
            kept.append((flat, own, flat[own].clone()))
            flat[own] = 0
    try:
        return torch.stack([
            _divergence(logits.log_softmax(dim=-1), ask().log_softmax(dim=-1)) / known
            for ask, (logits, known) in zip(answers, clean, strict=True)
        ]).cpu()  # fmt: skip
    finally:
        for flat, own, values in kept:
            flat[own] = values


def _at_least(own: Float[Tensor, "k s"], levels: Float[Tensor, " l"]) -> Float[Tensor, "k l"]:
    """The share of each sorted row that is at a level or above."""
    below = torch.searchsorted(own, levels.expand(len(own), -1).contiguous())
    return 1 - below.double() / own.shape[1]


def _tail(chances: Float[Tensor, "k l"], several: int) -> Float[Tensor, " l"]:
    """P(at least ``several`` of independent events), events by rows."""
    counts = torch.zeros(several + 1, chances.shape[1], dtype=chances.dtype)
    counts[0] = 1  # by how many came true; the last row takes all from ``several`` on
    for a in chances:
        up = counts * a
        counts = counts - up
        counts[1:] += up[:-1]
        counts[-1] += up[-1]
    return counts[-1].clamp(max=1)


def _alike(
    chosen: Bool[Tensor, " m"], strata: Int[Tensor, " m"], generator: torch.Generator
) -> Bool[Tensor, " m"]:
    """As many of each stratum, drawn without replacement."""
    order = torch.rand(len(chosen), generator=generator, dtype=torch.float64)
    by_stratum = (strata.double() + order).argsort()
    wanted = torch.bincount(strata, chosen.double(), minlength=int(strata.max()) + 1).long()
    starts = torch.bincount(strata).cumsum(0) - torch.bincount(strata)
    rank = torch.arange(len(chosen)) - starts[strata[by_stratum]]
    found = torch.zeros_like(chosen)
    found[by_stratum[rank < wanted[strata[by_stratum]]]] = True
    return found
