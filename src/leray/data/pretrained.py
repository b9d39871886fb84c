"""Pretrained language models: SmolLM2 as its package carries it, or a folder of `transformers`.

Only models of type ``llama`` are read, and only weights in safetensors: a pickle can run code when
it is opened. Nothing is downloaded.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from leray.data.smollm2 import KEPT_AS, load_smollm2
from leray.errors import LerayError, plain
from leray.runs.tensors import check_tensors

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import LlamaForCausalLM

PACKAGED = "smollm2"
SUPPORTED = "llama (LlamaForCausalLM)"
PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt")
INSTALL = "pip install -c constraints.txt '.[transformers]'"


@dataclass(frozen=True, slots=True)
class Pretrained:
    """A model and what turns text into its tokens.

    Args:
        kept_as: How the weights were stored, where that changed them; else empty.
    """

    model: LlamaForCausalLM
    tokenizer: Tokenizer
    kept_as: str


def is_pretrained(name: str) -> bool:
    """Whether a name means a model that is read here: SmolLM2, or a folder with a config.json."""
    return name == PACKAGED or (Path(name) / "config.json").is_file()


def load_pretrained(name: str) -> Pretrained:
    """The model in single precision, on the processor, without gradients.

    Args:
        name: ``smollm2``, or a folder with ``config.json``, safetensors and ``tokenizer.json``.

    Raises:
        LerayError: What is needed is not installed, or the folder holds no such model.
    """
    if name == PACKAGED:
        return Pretrained(*load_smollm2(), kept_as=KEPT_AS)
    folder = Path(name)
    _check(folder)
    return Pretrained(_model(folder), _tokenizer(folder), kept_as="")


def _check(folder: Path) -> None:
    """Refuse what must not be opened before anything of it is."""
    if importlib.util.find_spec("transformers") is None:
        raise LerayError(f"a model of transformers needs transformers: {INSTALL}")
    try:
        config = json.loads((folder / "config.json").read_bytes())
        kind = config["model_type"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LerayError(
            f"{folder} holds no model of transformers: its config.json is damaged or names no "
            "model_type; save the model again with save_pretrained"
        ) from error
    if kind != "llama":
        raise LerayError(f"{folder} is a model of type {plain(str(kind))}; supported: {SUPPORTED}")
    if not any(folder.glob("*.safetensors")):
        pickled = [f.name for f in sorted(folder.iterdir()) if f.suffix in PICKLES]
        what = f"only {plain(pickled[0])}, a pickle, which can run code" if pickled else "none"
        raise LerayError(
            f"{folder} must have weights in safetensors; it has {what}: save the model again with "
            "save_pretrained"
        )
    for path in sorted(folder.glob("*.safetensors")):
        check_tensors(path)


def _model(folder: Path) -> LlamaForCausalLM:
    import torch
    from transformers import LlamaForCausalLM

    try:
        with _quiet():
            # With output_loading_info it returns a pair, which its types do not say.
            model, told = cast(
                "tuple[LlamaForCausalLM, dict[str, Any]]",
                LlamaForCausalLM.from_pretrained(
                    folder,
                    local_files_only=True,
                    use_safetensors=True,
                    dtype=torch.float32,
                    output_loading_info=True,
                ),
            )
    except Exception as error:  # whatever a damaged file makes the library raise
        first = plain(str(error).splitlines()[0] if str(error) else type(error).__name__)
        raise LerayError(f"{folder} cannot be loaded: {first}") from error
    odd = [*told["missing_keys"], *told["mismatched_keys"]]
    if odd:
        raise LerayError(
            f"{folder} lacks weights that its config.json asks for, {plain(str(odd[0]))} and "
            f"{len(odd) - 1} more: save the model again with save_pretrained"
        )
    return model.eval().requires_grad_(False)


def _tokenizer(folder: Path) -> Tokenizer:
    from tokenizers import Tokenizer

    path = folder / "tokenizer.json"
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises bare exceptions
        raise LerayError(f"{path} is no tokenizer: save it again with save_pretrained") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the library's bars and warnings: what matters of them becomes one line."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
