"""One training run from its configuration to a model on disk, in a run's folder."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from leray.data.cache import cache_home
from leray.errors import LerayError, check_seed
from leray.lm.flops import train_flops_per_token
from leray.lm.generation import generated
from leray.lm.losses import training_loss
from leray.lm.model import Model
from leray.runs.computation import Finished
from leray.runs.folder import RunFolder
from leray.runs.progress import no_progress
from leray.runs.seeds import Key
from leray.train.checkpoint import LARGEST, Trained, save_trained
from leray.train.configuration import TrainingConfig, configuration_of, tables_of
from leray.train.distributed import (
    DistributedTraining,
    check_shares,
    join,
    leading,
    num_processes,
    wait,
)
from leray.train.evaluation import document_losses
from leray.train.text import Split, read_texts
from leray.train.tokens import SEPARATOR, TokenFiles, question_mark, token_files, vocabulary_size
from leray.train.training import Training, check_device, loaded, num_parameters, size_of, weightless

Say = Callable[[str], None]
TOLD = 150_000
"""About how many tokens of the tuning split a run ends with; `leray lm evaluate` reads all."""
SAMPLE = 120
"""Tokens of the text that a model shows now and then."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a training run is: the tables of its file, and what the command line puts in place."""

    tables: Mapping[str, Any]
    where: str
    seed: int = 0
    device: str = "cpu"

    def __post_init__(self) -> None:
        check_seed(self.seed)

    @classmethod
    def of(cls, config: Mapping[str, Any], where: str) -> Asked:
        """What wrote the ``config.toml`` of a run.

        Raises:
            LerayError: The seed or the device is missing or of another kind.
        """
        tables = dict(config)
        seed, device = tables.pop("seed", None), tables.pop("device", None)
        if type(seed) is not int or not isinstance(device, str):
            raise LerayError(f"{where}: seed must be a whole number and device a text")
        return cls(tables=tables, where=where, seed=seed, device=device)


def run_training(
    asked: Asked, *, out: Path | None, resume: Path | None, say: Say
) -> tuple[dict[str, Any], Path]:
    """Train, or go on; returns what came of it, as JSON has it, and the folder.

    Raises:
        LerayError: For what a user can mend; what was finished stays in the folder.
        Interrupted: On Ctrl-C, with the command that goes on.
    """
    folder, asked = _opened(asked, resume)
    join(asked.device)
    config, files = prepared(asked)
    check_device(asked.device, config.schedule.precision)
    check_shares(config, num_processes())
    training = training_of(asked, config, files)
    _tried(training)
    if folder is None:
        tables = {"seed": asked.seed, "device": asked.device, **tables_of(config)}
        folder = RunFolder.create(out, "train", tables, command="lm train")
    with folder, threadpool_limits(limits=1):
        result = _train(asked, training, files, folder, say)
    return result, folder.path


def follow_training(asked: Asked, *, resume: Path | None) -> None:
    """In the processes of `torchrun` that do not lead: help with what the first one trains.

    Raises:
        LerayError: The leader ended early, and said why.
    """
    _, asked = _opened(asked, resume)
    join(asked.device)
    wait()
    config, files = prepared(asked)
    training = training_of(asked, config, files)
    assert isinstance(training, DistributedTraining), "one process has none that follow"
    with threadpool_limits(limits=1):
        training.follow()


def _opened(asked: Asked, resume: Path | None) -> tuple[RunFolder | None, Asked]:
    """What goes on, with its own settings; or nothing, and what was asked."""
    if resume is None:
        return None, asked
    folder = RunFolder.resume(resume)
    if folder.study != "train":
        raise LerayError(f"{resume} holds a run of {folder.study!r:.60}; allowed: 'train'")
    return folder, Asked.of(folder.config, str(resume / "config.toml"))


def prepared(asked: Asked) -> tuple[TrainingConfig, TokenFiles]:
    """The checked configuration, and the tokens of its text.

    Raises:
        LerayError: Settings or a text that cannot be used.
    """
    # Settings are checked before a text is read: a typing error costs no minute.
    named = configuration_of(asked.tables, vocabulary_size(_data(asked, "tokens")), asked.where)
    texts = read_texts(named.data.text)
    files = token_files(texts, named.data.tokens, cache_home() / "tokens")
    model = replace(named.model, num_tokens=files.vocabulary.size)
    return replace(named, model=model), files


def _data(asked: Asked, key: str) -> Any:
    found = asked.tables.get("data", {})
    return found.get(key) if isinstance(found, Mapping) else None


def training_of(asked: Asked, config: TrainingConfig, files: TokenFiles) -> Training:
    """The computation: alone, or together with the other processes of `torchrun`."""
    fields: dict[str, Any] = {
        "configs": (config,),
        "seeds": (asked.seed,),
        "tokens": files.splits["train"],
        "starts": files.starts["train"] if config.loss.answers else None,
        "question": question_mark(files.vocabulary) if config.loss.answers else None,
        "tune": files.splits["tune"],
        "tune_starts": files.starts["tune"],
        "device": asked.device,
    }
    num = num_processes()
    return Training(**fields) if num == 1 else DistributedTraining(**fields, num_processes=num)


def _tried(training: Training) -> None:
    """One window through the model, before a folder is made: what cannot be leaves nothing behind.

    Raises:
        LerayError: The text is too short, or the model too large or impossible.
    """
    config, seed = training.configs[0], training.seeds[0]
    batches = training.batches(config, seed)
    if size_of(config.model) > LARGEST:
        raise LerayError(f"the model has more than {LARGEST:,} weights: make it smaller")
    try:
        model = Model(config.model, torch.Generator().manual_seed(seed))
        inputs, targets = (torch.from_numpy(x[:1]) for x in batches.at(0))
        training_loss(model, inputs, targets, config.loss)
    except (RuntimeError, ValueError, IndexError, ZeroDivisionError, MemoryError) as error:
        raise LerayError(f"this model cannot be run: {error!s:.300}") from error


def _train(
    asked: Asked, training: Training, files: TokenFiles, folder: RunFolder, say: Say
) -> dict[str, Any]:
    config = training.configs[0]
    wait()  # the others read the text that was prepared here
    key = Key.root(asked.seed)
    empty = weightless(config.model)
    size = num_parameters(empty)
    cost = train_flops_per_token(empty, config.data.context, pages=config.loss.pages > 0)
    say(
        f"{size:,} parameters, {cost / 1e6:.2f} MFLOP a token; "
        f"{len(files.splits['train']):,} tokens of {config.data.text} to train on"
    )
    watched = _Watch(config, files, folder, say)
    with leading(num_processes()):
        folder.drive(training, key=key, progress=no_progress, on_step=watched)
    state = folder.state_of(training, key=key)
    assert state is not None, "the last step keeps its state"
    model = loaded(config, state, asked.device)
    num_tokens = config.schedule.num_steps * config.data.num_sequences * config.data.context
    trained = Trained(
        model,
        files.vocabulary,
        config.data.context,
        {
            "text": config.data.text,
            "vocabulary": config.data.tokens,
            "text_digest": files.digest,
            "answers": config.loss.answers,
            "seed": asked.seed,
            "steps": config.schedule.num_steps,
            "tokens": num_tokens,
            "flops": cost * num_tokens,
        },
    )
    save_trained(folder.path, trained)
    told = evaluated(trained, files, "tune", TOLD)
    say(
        f"tuning split, {told['tokens']:,} tokens: {told['loss']:.4f} nats a token, "
        f"{told['bits_per_byte']:.4f} bits a byte"
    )
    return {"run": str(folder.path), "parameters": size, "seed": asked.seed, **told}


def evaluated(
    trained: Trained, files: TokenFiles, split: Split, max_tokens: int | None = None
) -> dict[str, Any]:
    """Losses on a split, with those of every document; on its first documents where bounded."""
    starts, sizes = files.starts[split], files.sizes[split]
    if max_tokens is not None:
        num = max(1, int(np.searchsorted(starts, max_tokens, side="right")) - 1)
        starts, sizes = starts[: num + 1], sizes[:num]
    answers = trained.training.get("answers") is True
    question = question_mark(trained.vocabulary) if answers else None
    found = document_losses(
        trained.model, files.splits[split], starts, trained.context, question=question
    )
    return {
        "split": split,
        "loss": found.mean,
        "bits_per_byte": found.bits_per_byte(int(sizes.sum())),
        "perplexity": found.perplexity,
        "tokens": int(found.counts.sum()),
        "bytes": int(sizes.sum()),
        "train_flops": trained.training.get("flops"),
        "documents": [
            {"nats": float(n), "tokens": int(c), "bytes": int(b)}
            for n, c, b in zip(found.nats, found.counts, sizes, strict=True)
        ],
    }


class _Watch:
    """Says after every interval how training goes, and now and then what the model writes."""

    def __init__(
        self, config: TrainingConfig, files: TokenFiles, folder: RunFolder, say: Say
    ) -> None:
        self.config, self.files, self.folder, self.say = config, files, folder, say
        self.started, self.made = time.monotonic(), 0

    def __call__(self, finished: Finished) -> None:
        s, data = self.config.schedule, self.config.data
        made = len(finished.samples["loss"])
        self.made += made
        seconds = time.monotonic() - self.started
        done = min((finished.step + 1) * s.interval, s.num_steps)
        speed = self.made * data.num_sequences * data.context / seconds
        left = (s.num_steps - done) * seconds / self.made
        train, tune = float(np.mean(finished.samples["loss"])), float(finished.samples["tune"][0])
        self.say(
            f"step {done:,} of {s.num_steps:,}  train {train:.4f}  tune {tune:.4f}  "
            f"{speed:,.0f} tokens/s  {_clock(left)} left"
        )
        self.folder.event("trained", step=done, loss=train, tune=tune, tokens_per_second=speed)
        quarter = max(1, s.num_steps // 4)
        if not self.config.loss.answers and done // quarter > (done - made) // quarter:
            model = loaded(self.config, finished.state)
            tokens = list(
                generated(
                    model,
                    torch.tensor([SEPARATOR]),
                    SAMPLE,
                    data.context,
                    torch.Generator().manual_seed(0),
                )
            )
            self.say(f"sample: {self.files.vocabulary.decode(tokens)!r}")


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
