"""A BERT sentence encoder that wastes nothing on padding.

The tokens of a chunk of texts stand one after another in one matrix x ``[tokens, width]``; every
linear map runs on that matrix, and only attention looks at texts, in groups of equal length:

    x = LN(word[id] + position[i] + kind[0])
    x = LN(x + O·attention(Q x, K x, V x)),    x = LN(x + D·gelu(U x)),    once per layer
    vector = mean of x over the text's tokens, divided by its Euclidean norm

Chunks are small enough for their activations to stay in the processor's cache, and each worker
thread takes whole chunks, with no threads inside an operation: nothing spins, and one worker and
many compute the same numbers. On processors where it pays, linear maps use 16-bit integers
(`leray.data.int16`).

Source: Devlin et al. 2019 (BERT, section 3 and appendix A.2); Reimers and Gurevych 2019
(Sentence-BERT, section 3: mean pooling); Wang et al. 2020 (MiniLM). Dropout is absent: this only
encodes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor

from leray.data import int16
from leray.errors import LerayError
from leray.runs.tensors import check_tensors

CHUNK_TOKENS = (
    512  # measured best of 128 to 4,096: weights are re-read rarely, activations stay near
)

Linear = Callable[[Tensor], Tensor]
Norm = Callable[[Tensor], Tensor]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Layer:
    """One transformer layer as five maps; ``qkv`` gives queries, keys and values side by side."""

    qkv: Linear
    output: Linear
    attention_norm: Norm
    up: Linear
    down: Linear
    norm: Norm


class MiniLM:
    """A BERT-architecture sentence encoder read from a sentence-transformers folder.

    Args:
        folder: Holds ``model.safetensors``, ``tokenizer.json``, ``config.json`` and, optionally,
            ``sentence_bert_config.json``.
        device: A torch device such as ``cpu`` or ``cuda:0``.
        num_workers: Threads that take chunks; by default the processors this process may use. The
            result does not depend on it.
        use_integers: Whether linear maps use 16-bit integers (x86-64 processors with AVX2 can); by
            default where it is faster.

    Raises:
        LerayError: Where a file is missing or damaged, or the device is unknown or absent.
    """

    def __init__(
        self,
        folder: Path,
        *,
        device: str = "cpu",
        num_workers: int | None = None,
        use_integers: bool | None = None,
    ) -> None:
        self._device = torch_device(device)
        on_cpu = self._device.type == "cpu"
        self._use_integers = on_cpu and (
            int16.is_worthwhile() if use_integers is None else use_integers
        )
        self._num_workers = (num_workers or _num_processors()) if on_cpu else 1
        self._pool = ThreadPoolExecutor(
            self._num_workers, initializer=torch.set_num_threads, initargs=(1,)
        )
        try:
            config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
            check_tensors(folder / "model.safetensors")
            weights = load_file(folder / "model.safetensors", device=str(self._device))
            self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
            self._read(config, {k.removeprefix("bert."): v.float() for k, v in weights.items()})
        except LerayError:
            raise
        except Exception as e:  # the readers raise many kinds, some of them bare Exceptions
            reason = " ".join(f"{type(e).__name__}: {e}".split())
            raise LerayError(
                f"the sentence encoder in {folder} cannot be read ({reason}); "
                "install or download it again"
            ) from e
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(max_length(folder, config))

    def _read(self, config: dict[str, Any], w: dict[str, Tensor]) -> None:
        self.dim: int = config["hidden_size"]
        self._heads: int = config["num_attention_heads"]
        self._gelu = {"gelu": "none", "gelu_new": "tanh", "gelu_pytorch_tanh": "tanh"}[
            config.get("hidden_act", "gelu")
        ]
        eps = config.get("layer_norm_eps", 1e-12)

        def linear(*names: str) -> Linear:
            weight = torch.cat([w[f"{name}.weight"] for name in names])
            bias = torch.cat([w[f"{name}.bias"] for name in names])
            if self._use_integers and int16.Int16Linear.fits(weight):
                return int16.Int16Linear(weight, bias)
            transposed = weight.t().contiguous()
            return lambda x: torch.addmm(bias, x, transposed)

        def norm(name: str) -> Norm:
            weight, bias = w[f"{name}.weight"], w[f"{name}.bias"]
            return lambda x: F.layer_norm(x, (self.dim,), weight, bias, eps)

        e = "embeddings"
        self._words = w[f"{e}.word_embeddings.weight"]
        self._positions = (
            w[f"{e}.position_embeddings.weight"] + w[f"{e}.token_type_embeddings.weight"][0]
        )
        self._embedding_norm = norm(f"{e}.LayerNorm")
        self._layers = []
        for i in range(config["num_hidden_layers"]):
            p = f"encoder.layer.{i}"
            attention = f"{p}.attention.self"
            layer = _Layer(
                qkv=linear(f"{attention}.query", f"{attention}.key", f"{attention}.value"),
                output=linear(f"{p}.attention.output.dense"),
                attention_norm=norm(f"{p}.attention.output.LayerNorm"),
                up=linear(f"{p}.intermediate.dense"),
                down=linear(f"{p}.output.dense"),
                norm=norm(f"{p}.output.LayerNorm"),
            )
            self._layers.append(layer)

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Encode texts, each cut to the model's longest length in tokens.

        A text's vector does not depend on the other texts where linear maps are in integers;
        elsewhere the last bits may.

        Args:
            texts: Any number, in any order; equal texts are computed again (`leray.data.embeddings`
                removes them).

        Returns:
            float32 ``[texts, dim]``, rows of Euclidean norm 1.
        """
        encodings = self._tokenizer.encode_batch_fast([_readable(t) for t in texts])
        ids = [np.array(e.ids, dtype=np.int64) for e in encodings]
        order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
        chunks = _chunks(order, [len(x) for x in ids])
        vectors = np.empty((len(ids), self.dim), np.float32)

        def encode_chunk(chunk: list[int]) -> None:
            vectors[chunk] = self._forward([ids[i] for i in chunk]).cpu().numpy()

        for _ in self._pool.map(encode_chunk, reversed(chunks)):  # the longest first
            pass
        return vectors

    @torch.inference_mode()
    def _forward(self, ids: list[np.ndarray]) -> Tensor:
        """The vectors of one chunk, whose texts come sorted by length."""
        groups = [(length, len(list(g))) for length, g in groupby(len(x) for x in ids)]
        flat = torch.from_numpy(np.concatenate(ids)).to(self._device)
        positions = [self._positions[:length].repeat(n, 1) for length, n in groups]
        x = self._embedding_norm(F.embedding(flat, self._words).add_(torch.cat(positions)))
        for layer in self._layers:
            mixed = self._attend(layer.qkv(x), groups)
            x = layer.attention_norm(layer.output(mixed).add_(x))
            x = layer.norm(layer.down(F.gelu(layer.up(x), approximate=self._gelu)).add_(x))
        sizes = [length * n for length, n in groups]
        pooled = [
            part.view(n, length, self.dim).mean(1)
            for part, (length, n) in zip(x.split(sizes), groups, strict=True)
        ]
        return F.normalize(torch.cat(pooled))

    def _attend(self, qkv: Tensor, groups: list[tuple[int, int]]) -> Tensor:
        """Attention within each text; qkv ``[tokens, 3·dim]`` to ``[tokens, dim]``."""
        out = qkv.new_empty(len(qkv), self.dim)
        start = 0
        for length, n in groups:
            rows = slice(start, start + length * n)
            shape = (n, length, 3, self._heads, self.dim // self._heads)
            q, k, v = qkv[rows].view(shape).permute(2, 0, 3, 1, 4)  # [n, heads, length, width]
            mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2)
            out[rows].view(mixed.shape).copy_(mixed)
            start = rows.stop
        return out


def max_length(folder: Path, config: dict[str, Any]) -> int:
    """The most tokens a text may have: sentence_bert_config.json's, else as many as positions."""
    positions = int(config["max_position_embeddings"])
    settings = folder / "sentence_bert_config.json"
    if not settings.exists():
        return positions
    asked = json.loads(settings.read_text(encoding="utf-8")).get("max_seq_length")
    return min(int(asked or positions), positions)


def _chunks(order: Sequence[int], lengths: Sequence[int]) -> list[list[int]]:
    """Cut the order into runs of at most CHUNK_TOKENS tokens (one text at least)."""
    chunks: list[list[int]] = []
    room = 0
    for i in order:
        if lengths[i] > room:
            chunks.append([])
            room = CHUNK_TOKENS
        chunks[-1].append(i)
        room -= lengths[i]
    return chunks


def _readable(text: str) -> str:
    """The text with lone surrogates (from damaged JSON), which have no UTF-8, as question marks."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _num_processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def torch_device(name: str) -> torch.device:
    """The device by that name, if this machine and this build of torch have it."""
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()  # not of the device "meta", which holds nothing
    except (RuntimeError, AssertionError) as e:
        reason = str(e).splitlines()[0]
        raise LerayError(
            f"device {name!r} cannot be used here ({reason}); the processor is 'cpu'"
        ) from e
    return device
