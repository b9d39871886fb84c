"""A trained model on disk: ``model.safetensors`` and ``model.json``, which hold no code.

``model.json`` has the configuration, the vocabulary and how it was trained. Both are read as
untrusted: sizes are bounded, names, shapes and kinds are checked against the configuration, and
nothing is executed.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from leray.errors import LerayError
from leray.lm.config import ModelConfig
from leray.lm.model import Model
from leray.runs.files import atomic_write, make_folder
from leray.runs.tensors import open_tensors
from leray.train.configuration import settings_of
from leray.train.tokens import Vocabulary
from leray.train.training import num_parameters, weightless

WEIGHTS, DESCRIPTION = "model.safetensors", "model.json"
LARGEST = 4_000_000_000
"""The most weights that are read."""


@dataclass(frozen=True)
class Trained:
    """A model and what it needs to read and write text.

    Args:
        context: Tokens of a window in training.
        training: How it was trained: ``steps``, ``tokens``, ``flops``, ``text``, ``vocabulary``,
            ``seed``.
    """

    model: Model
    vocabulary: Vocabulary
    context: int
    training: dict[str, Any]


def save_trained(folder: Path, trained: Trained) -> None:
    """Write both files, the description last: where it is, the weights are whole."""
    make_folder(folder)
    weights = {k: v.detach().cpu().contiguous() for k, v in trained.model.state_dict().items()}
    content = save(weights)
    atomic_write(folder / WEIGHTS, content)
    config = dataclasses.asdict(trained.model.config)
    description = {
        "format": 1,
        "model": {k: v for k, v in config.items() if v is not None},
        "merges": trained.vocabulary.merges,
        "context": trained.context,
        "training": trained.training,
        "weights": hashlib.sha256(content).hexdigest(),
    }
    atomic_write(folder / DESCRIPTION, json.dumps(description, indent=1, allow_nan=False) + "\n")


def load_trained(folder: Path, device: str = "cpu") -> Trained:
    """The model of a folder, on a device.

    Raises:
        LerayError: There is none, or its files do not fit each other.
    """
    path = folder / DESCRIPTION
    try:
        told = json.loads(path.read_bytes())
        if not isinstance(told, dict):
            raise ValueError("it is no object")
        settings = settings_of(ModelConfig, told["model"], str(path), sizes=True)
        vocabulary, context = Vocabulary(told["merges"]), told["context"]
        if not (told["format"] == 1 and type(context) is int and 0 < context <= 2**24):
            raise ValueError("another format, or no context")
        if not isinstance(told["training"], dict):
            raise ValueError("'training' is no object")
        model = _empty(ModelConfig(**settings))
        if vocabulary.size != model.config.num_tokens:
            raise ValueError("the vocabulary is of another size than the model's")
    except FileNotFoundError as error:
        raise LerayError(
            f"no model in {folder}, for it has no {DESCRIPTION}: name the folder that "
            "'leray lm train' printed, or finish the run in it with 'leray lm train --resume'"
        ) from error
    except LerayError:
        raise
    except OSError as error:
        raise LerayError(f"cannot read {path}: {error.strerror}") from error
    except Exception as error:
        raise LerayError(f"{path} is damaged ({error}): train anew or take another copy") from error
    _fill(model, folder / WEIGHTS, told.get("weights"))
    return Trained(model.to(device).eval(), vocabulary, context, told["training"])


def _empty(config: ModelConfig) -> Model:
    """A model whose weights are still to be read; nothing large is made for a wrong description."""
    model = weightless(config)
    if num_parameters(model) > LARGEST:
        raise ValueError(f"the model has more than {LARGEST:,} weights")
    return model


def _fill(model: Model, path: Path, digest: object) -> None:
    """The digest is that of the file, and None in a description that has none."""
    wanted = {k: v.shape for k, v in model.state_dict().items()}
    try:
        with open_tensors(path) as file:
            found = {k: torch.Size(file.get_slice(k).get_shape()) for k in file.keys()}  # noqa: SIM118
            if found != wanted:
                odd = sorted(k for k in found | wanted if found.get(k) != wanted.get(k))
                own, other = (
                    str(list(x[odd[0]])) if odd[0] in x else "none" for x in (found, wanted)
                )
                raise LerayError(
                    f"{path} does not fit {DESCRIPTION}: of {odd[0]!r:.80} it has {own}, wanted is "
                    f"{other}; train anew or take another copy"
                )
            weights = {k: file.get_tensor(k) for k in wanted}
        if digest is not None:
            with path.open("rb") as whole:
                if hashlib.file_digest(whole, "sha256").hexdigest() != digest:
                    raise LerayError(
                        f"{path} is damaged: it is not the file that {DESCRIPTION} was written "
                        "with; train anew or take another copy"
                    )
    except FileNotFoundError as error:
        raise LerayError(f"there is no {path}: train anew or take another copy") from error
    odd = [k for k, w in weights.items() if w.dtype != torch.float32 or not w.isfinite().all()]
    if odd:
        raise LerayError(
            f"{path}: {odd[0]!r} is no finite float32; train anew or take another copy"
        )
    model.load_state_dict(weights, assign=True)
