"""Small decoders that answer arguments, one a seed: where studies of circuits begin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from leray.circuits.logicstream import MIXED
from leray.data.cache import cache_home
from leray.errors import LerayError
from leray.lm.config import ModelConfig
from leray.lm.model import Model
from leray.runs.folder import RunFolder
from leray.runs.seeds import Key
from leray.train.arguments import accuracies, papers
from leray.train.checkpoint import Trained
from leray.train.configuration import configuration_of
from leray.train.text import Arguments, Split, texts_of
from leray.train.tokens import TokenFiles, question_mark, token_files
from leray.train.training import Training, tensor_of

Weights = dict[str, np.ndarray]


@dataclass(frozen=True, kw_only=True, slots=True)
class Reasoner:
    """What one is, and what it learns.

    Args:
        forms: Of argument, of :data:`leray.circuits.logicstream.FORMS`.
        contents: Of their words.
        num_texts: To train on, all of them from the share ``growing`` of the steps on.
        num_others: Tokens that it has besides those of the arguments.
        num_rounds: Of training: after the first, in the place of those that cannot do it.
    """

    forms: tuple[str, ...]
    max_distractors: int
    num_texts: int
    width: int
    num_layers: int
    num_steps: int
    contents: tuple[str, ...] = MIXED
    num_others: int = 0
    context: int = 64
    num_rounds: int = 1
    growing: float = 0.4

    @property
    def tables(self) -> dict[str, Any]:
        """As `leray lm train` has them; configs/reasoner.toml is larger."""
        return {
            "model": {
                "width": self.width, "num_layers": self.num_layers, "num_heads": 4,
                "mixing": "coboundary", "feedforward": "cup",
            },
            "data": {"context": self.context, "num_sequences": 64, "growing": self.growing},
            "loss": {"answers": True},
            "optimizer": {"matrix_rate": 0.02, "rate": 0.005},
            "schedule": {"num_steps": self.num_steps, "interval": min(100, self.num_steps)},
        }  # fmt: skip


SMALL = Reasoner(
    forms=(
        "modus ponens", "modus tollens", "conjunction", "disjunction", "disjunctive syllogism",
    ),
    contents=("nonce",),
    max_distractors=0,
    num_texts=100_000,
    width=48,
    num_layers=3,
    num_steps=4_500,
    num_others=256,
    num_rounds=3,
)  # fmt: skip
"""What the studies of circuits and of protection begin with. It has the tokens of bytes, which it
does not learn, and which one of them adds."""
QUICK = replace(
    SMALL,
    forms=("modus ponens", "modus tollens"),
    num_texts=5_000,
    growing=0.7,
    num_steps=2_000,
    num_rounds=1,
)
"""For a look in minutes: not every seed learns it, and then nothing is judged."""
FIRST_SEED = 47
"""Those before it have been looked at, by full runs or to choose how these go (docs/log.md)."""
ABLE = 0.99
"""From which score on a model can do a form: the least accuracy, where it fires and where not."""
NUM_QUESTIONS = 200
"""Of every form and control, to tell who is able; drawn apart from all others."""


class Reasoners:
    """Trained in a run's folder, through the driver.

    Args:
        seeds: One model each.
    """

    def __init__(
        self,
        reasoner: Reasoner,
        seeds: Sequence[int],
        device: str = "cpu",
        name: str = "reasoners",
    ) -> None:
        self.name = name
        numbers: dict[Split, int] = {
            "train": reasoner.num_texts, "tune": 1_000, "report": 1_000,
        }  # fmt: skip
        arguments = Arguments(numbers, reasoner.forms, reasoner.max_distractors, reasoner.contents)
        self.reasoner, self.seeds, self.device = reasoner, tuple(seeds), device
        self.files: TokenFiles = token_files(
            texts_of(arguments), "words:160", cache_home() / "tokens"
        )

    @property
    def model(self) -> ModelConfig:
        """The shape of all of them."""
        return self.training().configs[0].model

    def training(self) -> Training:
        """Of all seeds."""
        files, reasoner = self.files, self.reasoner
        num_tokens = files.vocabulary.size + reasoner.num_others
        config = configuration_of(reasoner.tables, num_tokens, "the reasoner")
        return Training(
            configs=(config,) * len(self.seeds),
            seeds=self.seeds,
            tokens=files.splits["train"],
            tune=files.splits["tune"],
            tune_starts=files.starts["tune"],
            device=self.device,
            starts=files.starts["train"],
            question=question_mark(files.vocabulary),
            name=self.name,
        )

    def weights(self, folder: RunFolder, key: Key, workers: int) -> dict[int, Weights]:
        """Of every seed, trained where they are not yet.

        Raises:
            LerayError: They are gone from a finished run.
        """
        training, found = self.training(), {}
        folder.drive(training, key=key, workers=workers)
        for shard, seed in enumerate(self.seeds):
            state = folder.state_of(training, key=key, shard=shard)
            if state is None:
                raise LerayError("the reasoners' weights are gone: start a new run")
            start = "weights."
            found[seed] = {
                n.removeprefix(start): x
                for n, x in state.items()
                if n.startswith(start) and isinstance(x, np.ndarray)
            }
        return found

    def trained(self, weights: Weights) -> Trained:
        """One of them."""
        model = Model(self.model, torch.Generator().manual_seed(0))
        model.load_state_dict({n: tensor_of(x) for n, x in weights.items()})
        return Trained(model, self.files.vocabulary, self.reasoner.context, {})

    def score(self, weights: Weights) -> float:
        """Of what it can do least well."""
        generator = np.random.default_rng(FIRST_SEED)
        exam = [p for f in self.reasoner.forms for p in papers(f, NUM_QUESTIONS, generator)]
        own = self.trained(weights)
        return min(x for p in exam for x in accuracies(own, [p]).values())


def able_reasoners(
    reasoner: Reasoner, number: int, folder: RunFolder, workers: int, device: str = "cpu"
) -> tuple[dict[int, Weights], dict[int, float]]:
    """So many by seed, from `FIRST_SEED` on, in the place of those that cannot do it others.

    Returns weights and what every trained one scores. Where rounds run out, those that cannot do it
    are among them, the last.
    """
    given: dict[int, Weights] = {}
    scores: dict[int, float] = {}
    for k in range(reasoner.num_rounds):
        missing = number - sum(s >= ABLE for s in scores.values())
        if not missing:
            break
        first = FIRST_SEED + len(scores)
        name = "reasoners" if k == 0 else f"reasoners {k + 1}"
        own = Reasoners(reasoner, range(first, first + missing), device, name)
        found = own.weights(folder, Key.root(0), workers)
        given |= found
        scores |= {seed: own.score(w) for seed, w in found.items()}
    chosen = sorted(given, key=lambda seed: (scores[seed] < ABLE, seed))[:number]
    return {seed: given[seed] for seed in chosen}, scores
