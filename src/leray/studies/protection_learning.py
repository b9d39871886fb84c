"""One model that can answer arguments learns to write Python, in one of several ways.

The old task is LogicStream without chains, the new one bytes of the standard library, which have
tokens of their own. A run is one step of the driver: a plan, a seed, and from the weights of that
seed's old model the whole new training, measured now and then.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from leray.circuits.importance import factors, fisher, sensitivity
from leray.circuits.zones import Zoned, shares_by_name
from leray.errors import LerayError
from leray.lm.config import ModelConfig
from leray.lm.model import Model
from leray.runs.computation import Samples, State
from leray.runs.seeds import Key
from leray.studies.protection_methods import (
    PENALTIES,
    Known,
    Plan,
    moved_weights,
    normalised,
    shares_of,
)
from leray.train.arguments import Paper, papers
from leray.train.checkpoint import Trained
from leray.train.tokens import Vocabulary, question_mark
from leray.train.training import tensor_of

POINTS = 8
"""How often a run is measured."""
BETAS = (0.9, 0.95)
WARMUP = 20
"""Steps in which the rate rises."""
REPLAYED = 0.01
"""Old texts to new ones."""
PATH_STEPS, PATH_RATE, PATH_TEXTS = 100, 3e-4, 16
"""Of the path that SI measures: more steps on the old task."""


@dataclass(frozen=True, kw_only=True)
class Tasks:
    """The old task and the new one.

    Args:
        vocabulary: Of the old task; bytes have the tokens behind it.
        forms: The abilities.
        old: Texts of the old task to measure importance on and to replay, and their ``starts``.
        new: Bytes to train on, and ``held``: others to be measured on.
        context: Tokens of a window.
        num_sequences: Windows of a step.
        num_steps: Of the new training.
        num_questions: Of every form and control, in an exam; ``exam`` seeds them.
        num_known: Old texts on which importance is measured.
        num_held: Windows of ``held``, evenly apart.
    """

    vocabulary: Vocabulary
    forms: tuple[str, ...]
    old: np.ndarray
    starts: np.ndarray
    new: np.ndarray
    held: np.ndarray
    context: int
    num_sequences: int
    num_steps: int
    num_questions: int
    exam: int
    num_known: int
    num_held: int = 64


@dataclass(frozen=True, slots=True)
class Learned:
    """What a run came to, measured at ``steps``, the first of them before any.

    Args:
        new: Nats a byte on held-out text.
        scores: ``[points, forms]``: the least accuracy, over where a form fires and its controls.
        old: Nats an answer.
    """

    steps: np.ndarray
    new: np.ndarray
    scores: np.ndarray
    old: np.ndarray


@dataclass(frozen=True)
class Learning:
    """Runs of plans, each from the weights of its seed.

    Args:
        given: The old model's weights, by seed; ``given_from`` says which computation made them.
    """

    plans: tuple[Plan, ...]
    seeds: tuple[int, ...]
    model: ModelConfig
    tasks: Tasks
    given_from: str
    given: dict[int, dict[str, np.ndarray]] = field(metadata={"counts": False})
    device: str = field(default="cpu", metadata={"counts": False})
    name: str = "learning"

    @property
    def num_shards(self) -> int:
        return len(self.plans)

    @property
    def num_steps(self) -> int:
        return 1

    def init(self, shard: int, key: Key) -> State:  # noqa: ARG002, the seed says which run it is
        return {"shard": shard}

    def step(self, state: State, step_index: int, key: Key) -> tuple[State, Samples]:  # noqa: ARG002
        shard = int(state["shard"])
        seed = self.seeds[shard]
        model = old_model(self.model, self.given[seed], self.device)
        found = learned(self.plans[shard], model, self.tasks, seed)
        return state, {
            "steps": found.steps, "new": found.new, "scores": found.scores, "old": found.old,
        }  # fmt: skip

    def result(self, samples: list[list[Samples]]) -> list[Learned]:
        return [Learned(x["steps"], x["new"], x["scores"], x["old"]) for (x,) in samples]


def old_model(config: ModelConfig, weights: dict[str, np.ndarray], device: str) -> Model:
    """The model that has learned the old task."""
    model = Model(config, torch.Generator().manual_seed(0))
    model.load_state_dict({n: tensor_of(x) for n, x in weights.items()})
    return model.to(device)


def learned(plan: Plan, model: Model, tasks: Tasks, seed: int) -> Learned:
    """Train the model on the new task as the plan says."""
    generator = torch.Generator().manual_seed(seed)
    known = known_of(model, tasks, seed)
    shares = shares_of(plan, model, known, generator)
    anchors = {n: p.detach().clone() for n, p in model.named_parameters()}
    exam = exam_of(tasks)
    penalised = _penalty(plan, known)
    moved = moved_weights(plan, model, generator)
    soap = plan.optimizer == "SOAP"
    inner = optimizer_of(moved.values(), plan)
    optimizer = Zoned(inner, shares_by_name(model, shares), gradients=soap)
    batches = np.random.default_rng([seed, 1])
    replay = _Replay(model, tasks, seed) if plan.way == "1% replay" else None
    measured = [_measured(model, tasks, exam)]
    marks = {max(1, round(tasks.num_steps * (k + 1) / POINTS)) for k in range(POINTS)}
    for k in range(tasks.num_steps):
        for group in inner.param_groups:
            group["lr"] = plan.rate * min(1, (k + 1) / WARMUP)
        optimizer.zero_grad()
        loss = _new_loss(model, _windows(tasks, batches))
        if replay is not None and (more := replay.loss(k)) is not None:
            loss = loss + plan.strength * more
        loss.backward()
        for name, weights in penalised.items():
            p = model.get_parameter(name)
            assert p.grad is not None, "every weight has a gradient"
            p.grad += plan.strength * weights * (p.detach() - anchors[name])
        torch.nn.utils.clip_grad_norm_(moved.values(), 1.0)
        optimizer.step()
        if k + 1 in marks:
            measured.append(_measured(model, tasks, exam))
    new, scores, old = zip(*measured, strict=True)
    return Learned(np.array([0, *sorted(marks)]), np.array(new), np.array(scores), np.array(old))


def _penalty(plan: Plan, known: Known) -> dict[str, Tensor]:
    if plan.way not in PENALTIES:
        return {}
    if plan.way == "L2-SP":
        return {n: torch.ones_like(x) for n, x in known.importance["EWC"].items()}
    return normalised(known.importance[plan.way])


def optimizer_of(weights: Iterable[Tensor], plan: Plan) -> torch.optim.Optimizer:
    """Without weight decay, which would pull old weights too."""
    if plan.optimizer == "AdamW":
        return torch.optim.AdamW(weights, lr=plan.rate, betas=BETAS, weight_decay=0.0)
    from pytorch_optimizer.optimizer.soap import SOAP  # seconds, as all of its optimisers come

    return SOAP(weights, lr=plan.rate, betas=BETAS, weight_decay=0.0)


def known_of(model: Model, tasks: Tasks, seed: int) -> Known:
    """What is measured of the old task in the old weights; that of the last model is kept."""
    whole = hashlib.sha256(repr((seed, tasks.num_known)).encode())
    for p in model.parameters():
        whole.update(p.detach().cpu().numpy().tobytes())
    key = whole.hexdigest()
    if key not in _KNOWN:
        _KNOWN.clear()
        _KNOWN[key] = _measured_of(model, tasks, seed)
    return _KNOWN[key]


_KNOWN: dict[str, Known] = {}
"""Of this process."""


def _measured_of(model: Model, tasks: Tasks, seed: int) -> Known:
    draw = np.random.default_rng([seed, 2])
    drawn = draw.integers(len(tasks.starts) - 1, size=tasks.num_known).tolist()
    texts = [_text(tasks, d, model) for d in drawn]
    together = [_padded(texts[i : i + 8]) for i in range(0, len(texts), 8)]
    question = question_mark(tasks.vocabulary)

    def logits(rows: Tensor) -> Tensor:
        return model(rows[:, :-1])[rows[:, :-1] == question]

    generator = torch.Generator(device=texts[0].device).manual_seed(seed)
    few = [x[None] for x in texts[: len(texts) // 2]]
    rows = torch.zeros(model.config.num_tokens, 1, device=texts[0].device)
    rows[tasks.vocabulary.size :] = 1
    return Known(
        {
            "EWC": fisher(model, few, logits, generator),
            "MAS": sensitivity(model, few, logits),
            "SI": path_importance(model, together, question),
        },
        factors(model, together, logits, generator),
        {"embedding.weight": rows.expand(-1, model.config.width)},
    )


def path_importance(
    model: Model, batches: list[Int[Tensor, "b t"]], question: int
) -> dict[str, Tensor]:
    """What every weight's way took off the loss, over how far it went: SI, on more old steps.

    max(0, −Σ g Δw) / (Δw² + ξ), ξ a thousandth of the mean Δw²; the model is left as it was.
    """
    start = {n: p.detach().clone() for n, p in model.named_parameters()}
    gained = {n: torch.zeros_like(p) for n, p in model.named_parameters()}
    adam = torch.optim.AdamW(model.parameters(), lr=PATH_RATE, betas=(0.9, 0.95), weight_decay=0.0)
    for k in range(PATH_STEPS):
        adam.zero_grad()
        _old_loss(model, batches[k % len(batches)], question).backward()
        before = {n: p.detach().clone() for n, p in model.named_parameters()}
        adam.step()
        for n, p in model.named_parameters():
            if p.grad is not None:
                gained[n] -= p.grad * (p.detach() - before[n])
    far = {n: (p.detach() - start[n]).square() for n, p in model.named_parameters()}
    mean = sum(float(x.sum()) for x in far.values()) / sum(x.numel() for x in far.values())
    found = {n: gained[n].clamp(min=0) / (far[n] + 1e-3 * mean) for n in gained}
    with torch.no_grad():
        for n, p in model.named_parameters():
            p.copy_(start[n])
            p.grad = None
    return found


class _Replay:
    """Old texts, one to a hundred new windows."""

    def __init__(self, model: Model, tasks: Tasks, seed: int) -> None:
        self.model, self.tasks = model, tasks
        self.question = question_mark(tasks.vocabulary)
        self.draw = np.random.default_rng([seed, 3])
        self.every = 1 / (REPLAYED * tasks.num_sequences)

    def loss(self, step: int) -> Tensor | None:
        """Of one old text; None in the steps that have none."""
        if int((step + 1) / self.every) == int(step / self.every):
            return None
        document = int(self.draw.integers(len(self.tasks.starts) - 1))
        return _old_loss(self.model, _text(self.tasks, document, self.model)[None], self.question)


def _text(tasks: Tasks, document: int, model: Model) -> Int[Tensor, " t"]:
    first, last = tasks.starts[document : document + 2]
    found = torch.from_numpy(tasks.old[first:last].astype(np.int64))
    return found.to(model.embedding.weight.device)


def _padded(texts: list[Tensor]) -> Int[Tensor, "b t"]:
    return torch.nn.utils.rnn.pad_sequence(texts, batch_first=True)


def _old_loss(model: Model, rows: Tensor, question: int) -> Tensor:
    asked = rows[:, :-1] == question
    return F.cross_entropy(model(rows[:, :-1])[asked], rows[:, 1:][asked])


def _windows(tasks: Tasks, draw: np.random.Generator) -> Int[Tensor, "b t"]:
    places = draw.integers(len(tasks.new) - tasks.context - 1, size=tasks.num_sequences)
    return _bytes_at(tasks, tasks.new, places)


def _bytes_at(tasks: Tasks, text: np.ndarray, places: np.ndarray) -> Int[Tensor, "b t"]:
    rows = np.stack([text[p : p + tasks.context + 1] for p in places]).astype(np.int64)
    return torch.from_numpy(rows + tasks.vocabulary.size)


def _new_loss(model: Model, rows: Tensor) -> Float[Tensor, ""]:
    rows = rows.to(model.embedding.weight.device)
    return F.cross_entropy(model(rows[:, :-1]).flatten(0, 1), rows[:, 1:].flatten())


def exam_of(tasks: Tasks) -> list[Paper]:
    """Questions of all forms, which no text for importance or replay is drawn from."""
    generator = np.random.default_rng([tasks.exam, 4])
    return [p for form in tasks.forms for p in papers(form, tasks.num_questions, generator)]


@torch.no_grad()
def _measured(model: Model, tasks: Tasks, exam: list[Paper]) -> tuple[float, list[float], float]:
    """The new loss, the scores of the forms, and the old loss."""
    places = np.linspace(0, len(tasks.held) - tasks.context - 2, tasks.num_held).astype(np.int64)
    new = float(_new_loss(model, _bytes_at(tasks, tasks.held, places)))
    trained = Trained(model, tasks.vocabulary, tasks.context, {})
    least = dict.fromkeys(tasks.forms, 1.0)
    losses = []
    for paper in exam:
        logits = paper.logits(trained)
        right = float((logits.argmax(dim=1) == paper.right).double().mean())
        least[paper.form] = min(least[paper.form], right)
        losses.append(float(F.cross_entropy(logits, paper.right)))
    if not np.isfinite(new):
        raise LerayError(f"the loss on new text is {new}: lower the rates of the plans")
    return new, list(least.values()), float(np.mean(losses))


def reached(run: Learned, target: float) -> tuple[float, float, float]:
    """Steps, forgetting in score and in nats where the new loss first is ``target``.

    Between two measured points all three are on a line. A run that does not get there has its last
    values, and infinite steps: it forgets less than it would have.
    """
    mean = run.scores.mean(axis=1)
    lost, risen = mean[0] - mean, run.old - run.old[0]
    below = np.flatnonzero(run.new <= target)
    if not len(below):
        return np.inf, float(lost[-1]), float(risen[-1])
    k = int(below[0])
    if k == 0:
        return 0.0, 0.0, 0.0
    t = (run.new[k - 1] - target) / (run.new[k - 1] - run.new[k])
    steps, score, nats = (x[k - 1] + t * (x[k] - x[k - 1]) for x in (run.steps, lost, risen))
    return float(steps), float(score), float(nats)
