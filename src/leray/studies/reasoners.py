"""Small decoders that answer arguments, one a seed: where studies of circuits begin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from leray.circuits.logicstream import MIXED
from leray.data.cache import cache_home
from leray.errors import LerayError
from leray.lm.config import ModelConfig
from leray.runs.folder import RunFolder
from leray.runs.seeds import Key
from leray.train.configuration import configuration_of
from leray.train.text import Arguments, Split, texts_of
from leray.train.tokens import TokenFiles, question_mark, token_files
from leray.train.training import Training

Weights = dict[str, np.ndarray]


@dataclass(frozen=True, kw_only=True, slots=True)
class Reasoner:
    """What one is, and what it learns.

    Args:
        forms: Of argument, of :data:`leray.circuits.logicstream.FORMS`.
        contents: Of their words.
        num_texts: To train on.
        num_others: Tokens that it has besides those of the arguments.
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

    @property
    def tables(self) -> dict[str, Any]:
        """As `leray lm train` has them; configs/reasoner.toml is larger."""
        return {
            "model": {
                "width": self.width, "num_layers": self.num_layers, "num_heads": 4,
                "mixing": "coboundary", "feedforward": "cup",
            },
            "data": {"context": self.context, "num_sequences": 64, "growing": 0.4},
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
)  # fmt: skip
"""What the studies of circuits and of protection begin with. It has the tokens of bytes, which it
does not learn, and which one of them adds."""
QUICK = replace(SMALL, forms=("modus ponens", "modus tollens"), num_steps=2_000)
"""For a look in minutes: not every seed learns it, and then nothing is judged."""
FIRST_SEED = 20
"""Those before it chose how the studies go on (docs/log.md)."""


class Reasoners:
    """Trained in a run's folder, through the driver.

    Args:
        seeds: One model each.
    """

    def __init__(self, reasoner: Reasoner, seeds: Sequence[int], device: str = "cpu") -> None:
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
            name="reasoners",
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
