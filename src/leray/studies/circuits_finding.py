"""Circuits of one form in one small reasoner, found on some examples and measured on others.

Shapes: e edges, m methods in the order of `METHODS`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from leray.circuits.ablation import Task, replacement
from leray.circuits.acdc import acdc
from leray.circuits.decoder import Decoder
from leray.circuits.elimination import eliminate_edges
from leray.circuits.faithfulness import faithfulness, kept, smallest
from leray.circuits.importance import fisher
from leray.circuits.patching import clean_run
from leray.lm.config import ModelConfig
from leray.lm.model import Model
from leray.runs.computation import Samples, State
from leray.runs.seeds import Key
from leray.studies.circuits_claims import FAITHFUL
from leray.studies.circuits_drift import MARKS, drifted
from leray.studies.reasoners import ABLE, Weights
from leray.train.arguments import Paper, accuracies, answer_tokens, encoded, papers, task_of_form
from leray.train.checkpoint import Trained
from leray.train.tokens import Vocabulary
from leray.train.training import tensor_of

THRESHOLDS = (0.001, 0.003, 0.01, 0.03, 0.1)
"""Of ACDC, as shares of the effect of ablating everything."""
METHODS = ("ours", "EAP-IG", "ACDC", "random")


@dataclass(frozen=True, slots=True)
class Circuits:
    """Of one model and form.

    Args:
        score: The model's, before anything is ablated.
        parameters: The least share of them that, alone, still scores .9.
        scores: The place of every edge by elimination; none are sought in a model that cannot do
            the form, and what follows is NaN or empty.
        sizes: By method, how many edges keep .9, and ``keeps`` what they keep; NaN where no
            circuit of the method does.
        mask: Ours.
        by_chance: What as many random edges as ours keep.
        carried: What ours keeps in the next seed's model, where that can do the form too.
        drifted: What it keeps while its own model learns on, after `MARKS` steps.
    """

    score: float
    parameters: float
    scores: Float[np.ndarray, " e"]
    sizes: Float[np.ndarray, " m"]
    keeps: Float[np.ndarray, " m"]
    mask: Bool[np.ndarray, " e"]
    by_chance: float
    carried: float
    drifted: Float[np.ndarray, " marks"]


@dataclass(frozen=True)
class Finding:
    """Circuits of every seed and form: a shard each.

    Args:
        given: The models' weights by seed; ``given_from`` says which computation made them.
    """

    asked: tuple[tuple[int, str], ...]
    others: tuple[int, ...]
    model: ModelConfig
    vocabulary: Vocabulary
    context: int
    num_examples: int
    num_questions: int
    given_from: str
    given: dict[int, Weights] = field(metadata={"counts": False})
    name: str = "circuits"

    @property
    def num_shards(self) -> int:
        return len(self.asked)

    @property
    def num_steps(self) -> int:
        return 1

    def init(self, shard: int, key: Key) -> State:  # noqa: ARG002, the step draws
        return {"shard": shard}

    def step(self, state: State, step_index: int, key: Key) -> tuple[State, Samples]:  # noqa: ARG002
        shard = int(state["shard"])
        seed, form = self.asked[shard]
        own, other = (self._trained(s) for s in (seed, self.others[shard]))
        found = circuits_of(own, other, form, self.num_examples, self.num_questions, key)
        return state, {
            name: np.asarray(getattr(found, name)) for name in Circuits.__dataclass_fields__
        }

    def _trained(self, seed: int) -> Trained:
        model = Model(self.model, torch.Generator().manual_seed(0))
        model.load_state_dict({n: tensor_of(x) for n, x in self.given[seed].items()})
        return Trained(model, self.vocabulary, self.context, {})

    def result(self, samples: list[list[Samples]]) -> list[Circuits]:
        return [
            Circuits(
                score=float(x["score"]),
                parameters=float(x["parameters"]),
                scores=x["scores"],
                sizes=x["sizes"],
                keeps=x["keeps"],
                mask=x["mask"],
                by_chance=float(x["by_chance"]),
                carried=float(x["carried"]),
                drifted=x["drifted"],
            )
            for (x,) in samples
        ]


def circuits_of(
    own: Trained, other: Trained, form: str, num_examples: int, num_questions: int, key: Key
) -> Circuits:
    """Find and measure on different examples."""
    generator = key.child("examples").generator()
    exam = papers(form, num_questions, generator)
    score, none = min(accuracies(own, exam).values()), float("nan")
    if score < ABLE:
        empty = np.full(len(METHODS), none)
        nothing, never = np.zeros(0, bool), np.full(len(MARKS), none)
        return Circuits(score, none, np.zeros(0), empty, empty, nothing, none, none, never)
    portable = min(accuracies(other, exam).values()) >= ABLE
    share = parameters_needed(own, exam, papers(form, num_examples, generator))
    finding, measuring = (
        task_of_form(own, form, n, generator) for n in (num_examples, 2 * num_examples)
    )
    models = []
    for trained in (own, other):
        trained.model.double().requires_grad_(False)
        models.append(Decoder(trained.model, answer_tokens(trained)))
    model, elsewhere = models
    found = eliminate_edges(model, finding)
    drawn = torch.from_numpy(generator.random(len(found.scores)))
    sizes, keeps = [], []
    for scores in (found.scores, found.attributed, None, drawn):
        if scores is None:
            number, faithful = _by_acdc(model, finding, measuring)
        else:
            curve = faithfulness(model, measuring, scores)
            number = smallest(model, measuring, scores, curve, FAITHFUL)
            faithful = float(kept(model, measuring, _best(scores, number)[None], "resample"))
        sizes.append(number)
        keeps.append(faithful)
    mask = _best(found.scores, int(sizes[0]))
    chance = _best(drawn, int(sizes[0]))
    return Circuits(
        score=score,
        parameters=share,
        scores=found.scores.numpy(),
        sizes=np.array(sizes, dtype=float),
        keeps=np.array(keeps),
        mask=mask.numpy(),
        by_chance=float(kept(model, measuring, chance[None], "resample")),
        carried=float(kept(elsewhere, measuring, mask[None], "resample")) if portable else none,
        drifted=drifted(own, exam, mask, measuring, generator),
    )


def _best(scores: Float[Tensor, " edges"], number: int) -> Tensor:
    mask = torch.zeros(len(scores), dtype=torch.bool)
    mask[scores.argsort(descending=True, stable=True)[:number]] = True
    return mask


def _by_acdc(model: Decoder, finding: Task, measuring: Task) -> tuple[float, float]:
    """Of all thresholds the fewest edges that keep .9."""
    run = clean_run(model, finding)
    replaced = replacement(model, finding, "resample", run.written)
    gap = model.output(replaced.sum(dim=0)) - run.outputs_of_all()
    whole = float(gap[finding.counted].square().sum(dim=-1).mean())
    best = (float("nan"), float("nan"))
    for threshold in THRESHOLDS:
        mask = acdc(model, finding, threshold * whole)
        faithful = float(kept(model, measuring, mask[None], "resample"))
        if faithful >= FAITHFUL and not best[0] <= int(mask.sum()):
            best = (float(mask.sum()), faithful)
    return best


@torch.no_grad()
def parameters_needed(trained: Trained, exam: Sequence[Paper], known: Sequence[Paper]) -> float:
    """The least share of parameters that, all others zero, score .9 on the exam, by bisection.

    They are ranked by F w², twice what the information says that the loss of a weight costs in nats
    (LeCun et al., Optimal brain damage, 1990). The share is known to a fiftieth of itself.

    Args:
        known: What the information is measured on.

    Cost: a pass over the exam a bisection, and one forward and backward pass a known question.
    """
    model = trained.model
    batches = [encoded(trained, [text]) for p in known for text in p.texts]
    tokens = list(answer_tokens(trained))

    def logits(example: tuple[Tensor, Tensor]) -> Tensor:
        rows, ends = example
        return model(rows)[torch.arange(len(rows)), ends][:, tokens]

    with torch.enable_grad():
        information = fisher(model, batches, logits, torch.Generator().manual_seed(0))
    start = {n: p.clone() for n, p in model.named_parameters()}
    worth = torch.cat([(information[n] * w.square()).flatten() for n, w in start.items()])
    order = worth.argsort(descending=True)
    low, high = 0, len(order)
    while high - low > max(1, high // 50):
        middle = (low + high) // 2
        mask = torch.zeros(len(order), dtype=torch.bool)
        mask[order[:middle]] = True
        pieces = mask.split([w.numel() for w in start.values()])
        for (n, w), piece in zip(start.items(), pieces, strict=True):
            model.get_parameter(n).copy_(w * piece.view_as(w))
        if min(accuracies(trained, exam).values()) >= FAITHFUL:
            high = middle
        else:
            low = middle
    for n, w in start.items():
        model.get_parameter(n).copy_(w)
    return high / len(order)
