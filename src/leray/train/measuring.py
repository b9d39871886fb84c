"""What a trained model is asked: its losses on a text, and to write one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from leray.data.cache import cache_home
from leray.errors import LerayError, check_seed
from leray.lm.generation import generated
from leray.train.checkpoint import Trained, load_trained
from leray.train.session import evaluated
from leray.train.text import SPLITS, read_documents, read_texts
from leray.train.tokens import SEPARATOR, TokenFiles, streams_of, token_files
from leray.train.training import check_device


def evaluate_command(run: Path, text: str | None, split: str | None, device: str) -> dict[str, Any]:
    """Losses on all documents of a text, or on a split of the one that was trained on.

    Raises:
        LerayError: No model, no text, or no such split.
    """
    if split is not None and split not in SPLITS:
        raise LerayError(f"split must be one of {', '.join(SPLITS)}; got {split!r:.40}")
    if split is not None and text is not None:
        raise LerayError("split has no effect with text, all of which is read: leave one out")
    check_device(device, "float32")
    trained = load_trained(run, device)
    if text is not None:
        stream, starts, sizes = streams_of(trained.vocabulary, read_documents(text)[0])
        files = TokenFiles(
            trained.vocabulary, {"report": stream}, {"report": starts}, {"report": sizes}
        )
        return {**evaluated(trained, files, "report"), "split": "all", "text": text}
    source = trained.training.get("text")
    if not isinstance(source, str):
        raise LerayError(f"{run} does not say which text it was trained on: give --text")
    files = _files(trained, source)
    return {**evaluated(trained, files, split or "report"), "text": source}


def generate_command(
    run: Path,
    prompt: str,
    num_tokens: int,
    *,
    temperature: float,
    top: int,
    seed: int,
    device: str,
) -> str:
    """The prompt and the tokens that a model writes after it.

    Raises:
        LerayError: No model, or a setting out of its range.
    """
    check_device(device, "float32")
    if num_tokens < 1:
        raise LerayError(f"tokens must be ≥ 1; got {num_tokens}")
    check_seed(seed)
    trained = load_trained(run, device)
    start = np.concatenate([[SEPARATOR], trained.vocabulary.encode(prompt)]).astype(np.int64)
    try:
        tokens = list(
            generated(
                trained.model,
                torch.from_numpy(start),
                num_tokens,
                trained.context,
                torch.Generator().manual_seed(seed),
                temperature,
                top,
            )
        )
    except ValueError as error:
        raise LerayError(str(error)) from error
    return trained.vocabulary.decode([*start.tolist(), *tokens])


def _files(trained: Trained, source: str) -> TokenFiles:
    """The tokens of the text that a model was trained on, in its own vocabulary."""
    name = str(trained.training.get("vocabulary"))
    files = token_files(read_texts(source), name, cache_home() / "tokens")
    if files.digest != trained.training.get("text_digest"):
        raise LerayError(
            f"{source} has changed since the model was trained, so that its split is another: give "
            "--text to measure the model on all of it"
        )
    return files
