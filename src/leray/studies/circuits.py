"""The circuits study: how large circuits are, what they share, and whether they carry over.

Small reasoners are trained, one a seed. In each, every form's edges are scored
(:func:`leray.circuits.finder.find_edges`); its circuit is the least number of best edges from which
on .9 of what the model does is kept, on other examples than those that found it. Beside it stand
circuits by integrated gradients, by ACDC and at random.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from scipy.stats import rankdata
from torch import Tensor

from leray.circuits.ablation import Task, replacement
from leray.circuits.acdc import acdc
from leray.circuits.attribution import eap_ig
from leray.circuits.decoder import Decoder
from leray.circuits.faithfulness import faithfulness, kept, smallest
from leray.circuits.finder import find_edges
from leray.circuits.importance import fisher
from leray.circuits.patching import clean_run
from leray.errors import LerayError, nearest
from leray.evidence.paired import sign_flip_p_value, t_interval
from leray.evidence.verdict import Verdict, judge, not_judged
from leray.lm.config import ModelConfig
from leray.lm.model import Model
from leray.runs.computation import Samples, State
from leray.runs.executors import kept_workers
from leray.runs.folder import RunFolder
from leray.runs.seeds import Key
from leray.studies.architecture_rows import verdict_row
from leray.studies.circuits_claims import CLAIMS, FAITHFUL, SIMULTANEOUS
from leray.studies.reasoners import Reasoner, Reasoners, Weights
from leray.train.arguments import Paper, accuracies, answer_tokens, encoded, papers, task_of_form
from leray.train.checkpoint import Trained
from leray.train.tokens import Vocabulary
from leray.train.training import tensor_of

Publish = Callable[[RunFolder, dict[str, Any]], None]

ABLE = 0.99
"""The score from which on a model can do a form, and its circuit means something."""
THRESHOLDS = (0.001, 0.003, 0.01, 0.03, 0.1)
"""Of ACDC, as shares of the effect of ablating everything."""
METHODS = ("ours", "EAP-IG", "ACDC", "random")


@dataclass(frozen=True, kw_only=True, slots=True)
class Size:
    """How much a run of the study computes."""

    reasoner: Reasoner
    num_seeds: int
    num_examples: int = 64
    num_questions: int = 200


_SMALL = Reasoner(
    forms=("modus ponens", "modus tollens"),
    max_distractors=0,
    num_texts=30_000,
    width=48,
    num_layers=3,
    num_steps=1_500,
)
SIZES = {
    "quick": Size(reasoner=_SMALL, num_seeds=4, num_examples=32),
    "full": Size(reasoner=_SMALL, num_seeds=10),
}


def size_named(preset: str) -> Size:
    """The sizes of a preset.

    Raises:
        LerayError: There is no such preset.
    """
    if preset not in SIZES:
        raise LerayError(
            f"preset must be one of {', '.join(SIZES)}; got {preset!r:.40}{nearest(preset, SIZES)}"
        )
    return SIZES[preset]


@dataclass(frozen=True, slots=True)
class Circuits:
    """Of one model and form.

    Args:
        score: The model's, before anything is ablated.
        parameters: The least share of them that, alone, still scores .9.
        scores: Of every edge; none are sought in a model that cannot do the form, and what
            follows is NaN or empty.
        sizes: By method, how many edges keep .9, and ``keeps`` what they keep; NaN where no
            circuit of the method does.
        mask: Ours.
        by_chance: What as many random edges as ours keep.
        carried: What ours keeps in the next seed's model.
    """

    score: float
    parameters: float
    scores: np.ndarray
    sizes: np.ndarray
    keeps: np.ndarray
    mask: np.ndarray
    by_chance: float
    carried: float


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
        return Circuits(score, none, np.zeros(0), empty, empty, np.zeros(0, bool), none, none)
    share = parameters_needed(own, exam, papers(form, num_examples, generator))
    finding, measuring = (task_of_form(own, form, num_examples, generator) for _ in range(2))
    models = []
    for trained in (own, other):
        trained.model.double().requires_grad_(False)
        models.append(Decoder(trained.model, answer_tokens(trained)))
    model, elsewhere = models
    found = find_edges(model, finding)
    run = clean_run(model, finding)
    gradients = eap_ig(run, finding, replacement(model, finding, "resample", run.written), 5)
    drawn = torch.from_numpy(generator.random(len(found.scores)))
    sizes, keeps = [], []
    for scores in (found.scores, gradients, None, drawn):
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
        sizes=np.array(sizes),
        keeps=np.array(keeps),
        mask=mask.numpy(),
        by_chance=float(kept(model, measuring, chance[None], "resample")),
        carried=float(kept(elsewhere, measuring, mask[None], "resample")),
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

    They are ranked by F w², what the information says is lost without a weight.
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


@dataclass(frozen=True, kw_only=True, slots=True)
class CircuitsRequest:
    """What a run computes."""

    preset: str = "quick"

    def config(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of(cls, config: Mapping[str, Any], where: Path) -> CircuitsRequest:
        """What wrote a run's ``config.toml``.

        Raises:
            LerayError: A setting is missing or of another kind.
        """
        if not isinstance(config.get("preset"), str):
            raise LerayError(f"{where}: preset must be a text; start a new run")
        return cls(preset=config["preset"])


def run_circuits(
    request: CircuitsRequest,
    *,
    out: Path | None,
    resume: Path | None,
    workers: int | None,
    publish: Publish,
) -> tuple[dict[str, Any], Path]:
    """Run the study, or go on with one; returns its result as JSON has it, and its folder.

    Raises:
        LerayError: For what a user can mend; what was finished stays in the folder.
        Interrupted: On Ctrl-C, with the command that goes on.
    """
    if workers is not None and workers < 1:
        raise LerayError(f"{workers} workers cannot do anything: ask for 1 or more")
    folder = None
    if resume is not None:
        folder = RunFolder.resume(resume)
        if folder.study != "circuits":
            raise LerayError(f"{resume} holds a run of {folder.study!r:.60}, not 'circuits'")
        request = CircuitsRequest.of(folder.config, resume / "config.toml")
    size = size_named(request.preset)
    if folder is None:
        folder = RunFolder.create(out, "circuits", request.config())
    with folder, kept_workers():
        result = _run(request, size, folder, workers or len(os.sched_getaffinity(0)))
        publish(folder, result)
    return result, folder.path


def _run(request: CircuitsRequest, size: Size, folder: RunFolder, workers: int) -> dict[str, Any]:
    key = Key.root(0)
    seeds = range(size.num_seeds)
    reasoners = Reasoners(size.reasoner, seeds)
    given = reasoners.weights(folder, key, workers)
    forms = size.reasoner.forms
    finding = Finding(
        asked=tuple((s, f) for s in seeds for f in forms),
        others=tuple((s + 1) % size.num_seeds for s in seeds for _ in forms),
        model=reasoners.model,
        vocabulary=reasoners.files.vocabulary,
        context=size.reasoner.context,
        num_examples=size.num_examples,
        num_questions=size.num_questions,
        given_from=f"reasoners of {size.reasoner.num_steps} steps",
        given=given,
    )
    found = folder.drive(finding, key=key, workers=workers)
    by_seed = [found[i : i + len(forms)] for i in range(0, len(found), len(forms))]
    verdicts = verdicts_of(by_seed, forms)
    result = {
        "study": "circuits",
        "run": str(folder.path),
        "preset": request.preset,
        "seed": 0,
        "data": {"name": f"LogicStream ({', '.join(forms)})", "repaired": {}, "dropped": {}},
        "scale": asdict(size),
        "edges": max(len(c.scores) for c in found),
        "table": [_row(form, [c[i] for c in by_seed]) for i, form in enumerate(forms)],
        "weights": None,
        "methods": [
            {"name": n, "seconds": round(s, 3), "claimed": None} for n, s in folder.seconds.items()
        ],
        "verdicts": [verdict_row(v) for v in verdicts],
    }
    folder.write_verdicts(result["verdicts"])
    folder.write("result.json", json.dumps(result, indent=1, allow_nan=False) + "\n")
    return result


def verdicts_of(by_seed: Sequence[Sequence[Circuits]], forms: Sequence[str]) -> list[Verdict]:
    """One a claim; of models that cannot do a form nothing is said.

    Args:
        by_seed: Of every model, its circuits by form.
    """
    able = [own for own in by_seed if min(c.score for c in own) >= ABLE]
    data = f"LogicStream ({', '.join(forms)})"
    note = f"{len(able)} of {len(by_seed)} models score {ABLE} or more on every form"
    if len(able) < 2:
        return [not_judged(c, data=data, seen=False, n=len(able), why=note) for c in CLAIMS]
    values = {
        "C1": [np.mean([c.parameters for c in own]) for own in able],
        "C2": [np.mean([_shared(a, b) for a, b in permutations(own, 2)]) for own in able],
        "C6": [np.mean([c.carried for c in own]) for own in able],
        "C7": [np.mean([_area(a.scores, b.mask) for a, b in permutations(own, 2)]) for own in able],
    }
    return [
        judge(
            c,
            t_interval(np.array(values[c.id]), SIMULTANEOUS),
            data=data,
            seen=False,
            method="by model",
            p_value=sign_flip_p_value(np.array(values[c.id]) - c.null),
            p_value_is="two-sided sign flips over models, of the distance from the null",
            note=note,
        )
        for c in CLAIMS
    ]


def _shared(a: Circuits, b: Circuits) -> float:
    """|A ∩ B| / min(|A|, |B|) less its mean over random sets of these sizes."""
    n, m, num = int(a.mask.sum()), int(b.mask.sum()), len(a.mask)
    return (float((a.mask & b.mask).sum()) - n * m / num) / min(n, m)


def _area(scores: np.ndarray, mask: np.ndarray) -> float:
    """Under the receiver operating characteristic, ties counted half."""
    ranks, n = rankdata(scores), int(mask.sum())
    return float((ranks[mask].sum() - n * (n + 1) / 2) / (n * (len(mask) - n)))


def _row(form: str, circuits: Sequence[Circuits]) -> dict[str, Any]:
    scores = [c.score for c in circuits]
    circuits = [c for c in circuits if c.score >= ABLE]
    sizes = np.array([c.sizes for c in circuits]).reshape(-1, len(METHODS))
    keeps = np.array([c.keeps for c in circuits]).reshape(-1, len(METHODS))
    return {
        "form": form,
        "scores": scores,
        "methods": [
            {
                "method": name,
                "edges": [_finite(x) for x in sizes[:, i]],
                "keeps": [_finite(x) for x in keeps[:, i]],
            }
            for i, name in enumerate(METHODS)
        ],
        "by_chance": [c.by_chance for c in circuits],
        "carried": [c.carried for c in circuits],
        "parameters": [c.parameters for c in circuits],
    }


def _finite(x: float) -> float | None:
    return float(x) if np.isfinite(x) else None
