"""How much an ability needs each weight: what penalties and zones are made of.

An ability is a list of examples and a function that gives a model's logits on one, ``[n, c]`` for
n answers. The Fisher information of the weights W, with answers y drawn from the model itself, is

    F = E [∇ log p(y) ∇ log p(y)ᵀ].

`fisher` is its diagonal. `factors` holds it for every linear map y = W x as a Kronecker product,
A ⊗ G with A = Σ x xᵀ and G = Σ g gᵀ over all places, g the gradient in y: as if x and g were
independent, and up to one factor a map, since only ratios within a map are used. In the bases of
their eigenvectors it is diagonal, λ_i γ_j. An embedding reads one token at a time, so that of its
two factors one is diagonal already: how often each token came. Its own diagonal would say little of
tokens that seldom decide: where a model is sure, few answers have a gradient.

A weight of information F moves the share

    s = 1 / (1 + (F / max F) / τ)

of its way (`graded`): all of it where F = 0, half where F is τ of the largest, in the same matrix.

Source: Kirkpatrick et al., Overcoming catastrophic forgetting (arXiv 1612.00796), for the diagonal;
Martens and Grosse, Optimizing neural networks with Kronecker-factored approximate curvature (arXiv
1503.05671); Aljundi et al., Memory aware synapses (arXiv 1711.09601).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from leray.circuits.zones import Share, Turned
from leray.errors import LerayError

Example = TypeVar("Example")


def fisher(
    model: nn.Module,
    examples: Sequence[Example],
    logits: Callable[[Example], Float[Tensor, "n c"]],
    generator: torch.Generator,
) -> dict[str, Tensor]:
    """The diagonal of F by the name of every weight, mean over examples.

    Raises:
        LerayError: No examples, or gradients that are not finite.

    Cost: a forward and a backward pass an example.
    """

    def of(example: Example) -> Tensor:
        found = logits(example)
        return F.cross_entropy(found, _drawn(found, generator), reduction="sum")

    return _mean_gradients(model, examples, of, torch.square)


def sensitivity(
    model: nn.Module,
    examples: Sequence[Example],
    logits: Callable[[Example], Float[Tensor, "n c"]],
) -> dict[str, Tensor]:
    """|∇ ‖logits‖²| by the name of every weight, mean over examples: memory aware synapses.

    Raises:
        LerayError: As `fisher`.

    Cost: a forward and a backward pass an example.
    """
    return _mean_gradients(model, examples, lambda x: logits(x).square().sum(), torch.abs)


def _mean_gradients(
    model: nn.Module,
    examples: Sequence[Example],
    loss: Callable[[Example], Tensor],
    taken: Callable[[Tensor], Tensor],
) -> dict[str, Tensor]:
    if not examples:
        raise LerayError("an ability needs examples: none came")
    names, weights = zip(*model.named_parameters(), strict=True)
    totals = [torch.zeros_like(p) for p in weights]
    for example in examples:
        gradients = torch.autograd.grad(loss(example), weights, allow_unused=True)
        for i, g in enumerate(gradients):
            if g is not None:
                totals[i] += taken(g) / len(examples)
    if not all(bool(t.isfinite().all()) for t in totals):
        raise LerayError("the model's gradients are not finite on these examples")
    return dict(zip(names, totals, strict=True))


@dataclass(frozen=True, slots=True)
class Factors:
    """A linear map's information as a Kronecker product, diagonalised.

    Args:
        out: Eigenvectors of what the rows of the matrix belong to, ``gamma`` their eigenvalues: G,
            and of an embedding, whose rows are tokens, None and how often they came.
        into: Of its columns, ``lam`` theirs: A, and of an embedding G.
    """

    out: Float[Tensor, "o o"] | None
    gamma: Float[Tensor, " o"]
    into: Float[Tensor, "i i"]
    lam: Float[Tensor, " i"]

    @property
    def information(self) -> Float[Tensor, "o i"]:
        """γ_j λ_i."""
        return self.gamma[:, None] * self.lam

    def turned(self, shares: Float[Tensor, "o i"]) -> Turned:
        """Shares in these bases."""
        return Turned(self.out, self.into, shares)


def factors(
    model: nn.Module,
    examples: Sequence[Example],
    logits: Callable[[Example], Float[Tensor, "n c"]],
    generator: torch.Generator,
) -> dict[str, Factors]:
    """The Kronecker factors of every ``nn.Linear`` and ``nn.Embedding``, by the name of its weight.

    Of an embedding that is the output too, what is read counts. The model's gradients are cleared.

    Args:
        examples: Each may hold many texts.

    Raises:
        LerayError: No examples.

    Cost: a forward and a backward pass an example; eigenvectors of every factor.
    """
    if not examples:
        raise LerayError("an ability needs examples: none came")
    read: dict[str, Tensor] = {}
    felt: dict[str, Tensor] = {}
    found: dict[str, Factors] = {}
    with _watched(model, read, felt):
        for example in examples:
            answers = logits(example)
            F.cross_entropy(answers, _drawn(answers, generator), reduction="sum").backward()
    model.zero_grad(set_to_none=True)
    for name, moment in felt.items():
        own, of = _eigen(moment), read[name]
        found[name] = Factors(None, of, *own) if of.ndim == 1 else Factors(*own, *_eigen(of))
    return found


@contextmanager
def _watched(model: nn.Module, read: dict[str, Tensor], felt: dict[str, Tensor]) -> Iterator[None]:
    """Adds up A and G of every map that is run; of an embedding A's diagonal."""

    def watch(name: str, module: nn.Module) -> torch.utils.hooks.RemovableHandle:
        def hook(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            if isinstance(module, nn.Embedding):
                num = torch.bincount(inputs[0].flatten(), minlength=module.num_embeddings)
                read[name] = read.get(name, 0) + num.to(output.dtype)
            else:
                x = inputs[0].detach().flatten(0, -2)
                read[name] = read.get(name, 0) + x.mT @ x

            def back(gradient: Tensor) -> None:
                g = gradient.detach().flatten(0, -2)
                felt[name] = felt.get(name, 0) + g.mT @ g

            output.register_hook(back)

        return module.register_forward_hook(hook)

    kinds = nn.Linear, nn.Embedding
    maps = {n: m for n, m in model.named_modules() if isinstance(m, kinds)}
    handles = [watch(f"{n}.weight".lstrip("."), module) for n, module in maps.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _eigen(moment: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvectors as columns, and eigenvalues."""
    values, vectors = torch.linalg.eigh(moment)
    return vectors, values.clamp(min=0)


def _drawn(logits: Tensor, generator: torch.Generator) -> Tensor:
    """Answers as the model gives them."""
    return torch.multinomial(logits.detach().softmax(dim=-1), 1, generator=generator)[:, 0]


def graded(information: Float[Tensor, "..."], tau: float) -> Float[Tensor, "..."]:
    """s = 1 / (1 + (F / max F) / τ); 1 where there is no information at all.

    Raises:
        LerayError: A τ that is not above 0.
    """
    if not tau > 0:
        raise LerayError(f"tau must be above 0; got {tau:g}")
    largest = float(information.max())
    return torch.ones_like(information) if largest == 0 else 1 / (1 + information / largest / tau)


def one_mask(information: Float[Tensor, "..."], mean: float) -> Float[Tensor, "..."]:
    """0 on the weights of most information and 1 on the others, of about this mean."""
    num = round((1 - mean) * information.numel())
    found = torch.ones(information.numel()).to(information)
    found[information.flatten().argsort(descending=True)[:num]] = 0
    return found.view_as(information)


def turned_zones(
    own: dict[str, Tensor], kronecker: dict[str, Factors], tau: float, *, graduated: bool = True
) -> dict[str, Share]:
    """Shares of every weight: of maps in their factors' bases, of others by coordinates.

    Args:
        own: The diagonal of F by weight.
        kronecker: The factors of those that have them.
        graduated: Graded shares; otherwise one mask in the same bases, of the same mean.
    """
    found: dict[str, Share] = {}
    for name, information in own.items():
        f = kronecker.get(name)
        of = information if f is None else f.information
        shares = graded(of, tau)
        shares = shares if graduated else one_mask(of, float(shares.mean()))
        found[name] = shares if f is None else f.turned(shares)
    return found


def zones(own: dict[str, Tensor], tau: float, *, graduated: bool = True) -> dict[str, Share]:
    """Shares of every weight, coordinate by coordinate; as `turned_zones` without factors."""
    return turned_zones(own, {}, tau, graduated=graduated)
