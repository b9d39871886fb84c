"""Compile the programs of ``leray/data/programs`` from RASP with Tracr.

    pip install tracr-pypi==1.0.0
    python benchmarks/planted/compile.py --out src/leray/data/programs

Tracr needs JAX and Haiku, which Leray does not: only the arrays are kept, as one safetensors file a
program, with ``programs.json`` beside them: the tokens in the order of their numbers, the meaning
of every direction of the residual stream and of every output, whether inputs are all sequences or
those of distinct tokens, and the scale of attention. Each file also holds inputs and what Tracr's
own model puts out on them, in double precision, before any argmax.

Tracr gives every layer as many heads, columns and hidden units as its largest. Heads are kept,
also those that do nothing; columns and hidden units that are zero in a whole layer are dropped, and
the scale of attention stays.

Source: Lindner et al., Tracr: compiled transformers as a laboratory for interpretability (arXiv
2301.05062); Weiss et al., Thinking like transformers (ICML 2021), for RASP.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from safetensors.numpy import save_file
from tracr.compiler import compiling, lib  # pyright: ignore[reportMissingImports]
from tracr.rasp import rasp  # pyright: ignore[reportMissingImports]

jax.config.update("jax_enable_x64", True)
NUM_REFERENCES = 32


@dataclass(frozen=True, kw_only=True, slots=True)
class Program:
    """A program with its alphabet and the length of its inputs."""

    make: Callable[[], rasp.SOp]
    alphabet: tuple[str | int, ...]
    length: int
    distinct: bool = False
    """Inputs are sequences of distinct tokens."""


def copy_first() -> rasp.SOp:
    first = rasp.Select(rasp.indices, rasp.indices, lambda k, _: k == 0)
    return rasp.Aggregate(first, rasp.tokens).named("first")


def same_as_first() -> rasp.SOp:
    return rasp.SequenceMap(lambda x, y: x == y, copy_first(), rasp.tokens).named("same_as_first")


def repeated() -> rasp.SOp:
    return (lib.make_hist() > 1).named("repeated")


def hist_of_hist() -> rasp.SOp:
    hist = lib.make_hist().named("hist")
    same = rasp.Select(hist, hist, rasp.Comparison.EQ)
    return rasp.SelectorWidth(same).named("hist_of_hist")


def mirrored() -> rasp.SOp:
    back = lib.make_reverse(rasp.tokens)
    return rasp.SequenceMap(lambda x, y: x == y, back, rasp.tokens).named("mirrored")


def sum_with_previous() -> rasp.SOp:
    before = lib.shift_by(1, rasp.tokens)
    return rasp.SequenceMap(lambda x, y: (x + y) % 3, before, rasp.tokens).named("sum")


def frac_repeats() -> rasp.SOp:
    before = lib.shift_by(1, rasp.tokens)
    same = rasp.SequenceMap(lambda x, y: x == y, before, rasp.tokens).named("same")
    return lib.make_frac_prevs(rasp.numerical(rasp.Map(int, same))).named("frac_repeats")


def rarest_last() -> rasp.SOp:
    last = rasp.Select(rasp.indices, lib.length - 1, rasp.Comparison.EQ)
    return rasp.Aggregate(last, lib.make_hist().named("hist")).named("count_of_last")


ABC = ("a", "b", "c")
PROGRAMS = {
    "count": Program(make=lambda: lib.make_count(rasp.tokens, "a"), alphabet=ABC, length=5),
    "count-less-frequent": Program(
        make=lambda: lib.make_count_less_freq(2), alphabet=ABC, length=5
    ),
    "count-of-last": Program(make=rarest_last, alphabet=ABC, length=4),
    "detect-pattern": Program(
        make=lambda: lib.detect_pattern(rasp.tokens, "ab"), alphabet=ABC, length=5
    ),
    "first": Program(make=copy_first, alphabet=ABC, length=5),
    "fraction-previous": Program(
        make=lambda: lib.make_frac_prevs(rasp.tokens == "a"), alphabet=ABC, length=5
    ),
    "fraction-repeats": Program(make=frac_repeats, alphabet=ABC, length=5),
    "histogram": Program(make=lib.make_hist, alphabet=ABC, length=5),
    "histogram-twice": Program(make=hist_of_hist, alphabet=ABC, length=5),
    "length": Program(make=lib.make_length, alphabet=ABC, length=5),
    "mirrored": Program(make=mirrored, alphabet=ABC, length=5),
    "pair-balance": Program(
        make=lambda: lib.make_pair_balance(rasp.tokens, "(", ")"),
        alphabet=("(", ")", "a"), length=5,
    ),
    "repeated": Program(make=repeated, alphabet=ABC, length=5),
    "reverse": Program(make=lambda: lib.make_reverse(rasp.tokens), alphabet=ABC, length=5),
    "same-as-first": Program(make=same_as_first, alphabet=ABC, length=5),
    "shift": Program(make=lambda: lib.shift_by(1, rasp.tokens), alphabet=ABC, length=5),
    "shuffle-dyck": Program(
        make=lambda: lib.make_shuffle_dyck(["()"]), alphabet=("(", ")"), length=6
    ),
    "shuffle-dyck-2": Program(
        make=lib.make_shuffle_dyck2, alphabet=("(", ")", "{", "}"), length=4
    ),
    "sort": Program(
        make=lambda: lib.make_sort(rasp.tokens, rasp.tokens, max_seq_len=4, min_key=1),
        alphabet=(1, 2, 3), length=4,
    ),
    "sort-by-frequency": Program(
        make=lambda: lib.make_sort_freq(4), alphabet=ABC, length=4
    ),
    "sort-distinct": Program(
        make=lambda: lib.make_sort_unique(rasp.tokens, rasp.tokens),
        alphabet=(1, 2, 3, 4, 5), length=4, distinct=True,
    ),
    "sum-with-previous": Program(make=sum_with_previous, alphabet=(0, 1, 2), length=5),
}  # fmt: skip


def arrays_of(program: Program) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The arrays of the compiled model, references among them, and what they mean."""
    expression = program.make()
    model = compiling.compile_rasp_to_model(
        expression, vocab=set(program.alphabet), max_seq_len=program.length + 1
    )
    params = jax.tree_util.tree_map(lambda a: np.asarray(a, np.float32), model.params)
    config, labels = model.model_config, model.residual_labels
    arrays = {
        "token": params["token_embed"]["embeddings"],
        "position": params["pos_embed"]["embeddings"],
    }
    for i in range(config.num_layers):
        arrays |= layer_of(params, i, config.num_heads)
    coding = getattr(model.output_encoder, "encoding_map", None)
    values = [f":{value}" for value in coding] if coding else [""]
    outputs = [labels.index(expression.label + value) for value in values]
    arrays["unembedding"] = np.eye(len(labels), dtype=np.float32)[:, outputs]
    tokens = model.input_encoder.encoding_map
    inputs = reference_inputs(program, tokens)
    double = jax.tree_util.tree_map(lambda a: jax.numpy.array(a, np.float64), params)
    ends = [model.forward(double, row[None]).transformer_output.output for row in inputs]
    arrays["reference.inputs"] = inputs
    arrays["reference.outputs"] = np.concatenate(ends) @ arrays["unembedding"]
    meaning = {
        "tokens": [str(token) for token, _ in sorted(tokens.items(), key=lambda item: item[1])],
        "bos": compiling.COMPILER_BOS,
        "alphabet": [str(a) for a in program.alphabet],
        "length": program.length,
        "distinct": program.distinct,
        "categorical": rasp.is_categorical(expression),
        "directions": labels,
        "outputs": [labels[i] for i in outputs],
        "scale": math.sqrt(config.key_size),
    }
    return {name: np.ascontiguousarray(a) for name, a in arrays.items()}, meaning


def layer_of(params: dict[str, Any], i: int, num_heads: int) -> dict[str, np.ndarray]:
    """The arrays of layer i by our names, without columns and hidden units that are all zero."""
    prefix = f"transformer/layer_{i}/"
    assert not any(np.any(v["b"]) for k, v in params.items() if k.startswith(prefix))
    query, key, value = (
        params[f"{prefix}attn/{part}"]["w"].reshape(
            len(params["token_embed"]["embeddings"].T), num_heads, -1
        )
        for part in ("query", "key", "value")
    )
    width = query.shape[0]
    output = params[f"{prefix}attn/linear"]["w"].reshape(num_heads, -1, width)
    up, down = params[f"{prefix}mlp/linear_1"]["w"], params[f"{prefix}mlp/linear_2"]["w"]
    matched = kept(np.any(query, axis=(0, 1)) & np.any(key, axis=(0, 1)))
    moved = kept(np.any(value, axis=(0, 1)) & np.any(output, axis=(0, 2)))
    hidden = kept(np.any(up, axis=0) & np.any(down, axis=1))
    arrays = {
        "heads.query": query[..., matched].swapaxes(0, 1),
        "heads.key": key[..., matched].swapaxes(0, 1),
        "heads.value": value[..., moved].swapaxes(0, 1),
        "heads.output": output[:, moved],
        "mlp.up": up[:, hidden],
        "mlp.down": down[hidden],
    }
    return {f"layers.{i}.{name}": array for name, array in arrays.items()}


def kept(used: np.ndarray) -> np.ndarray:
    """What is used, or the first where nothing is."""
    return used if used.any() else np.arange(len(used)) == 0


def reference_inputs(program: Program, tokens: dict[object, int]) -> np.ndarray:
    """Some of the program's inputs, with the compiler's first token before each."""
    drawn = itertools.product(program.alphabet, repeat=program.length)
    rows = [row for row in drawn if not program.distinct or len(set(row)) == len(row)]
    some = np.random.default_rng(0).permutation(len(rows))[:NUM_REFERENCES]
    return np.array([[tokens["compiler_bos"], *(tokens[x] for x in rows[i])] for i in some])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="the folder to write")
    folder = parser.parse_args().out
    meanings = {}
    for name, program in PROGRAMS.items():
        arrays, meanings[name] = arrays_of(program)
        save_file(arrays, folder / f"{name}.safetensors")
        print(f"{name:20s}{sum(a.nbytes for a in arrays.values()):10,} bytes")
    text = ",\n".join(f"{json.dumps(n)}: {json.dumps(m)}" for n, m in meanings.items())
    (folder / "programs.json").write_text("{\n" + text + "\n}\n")


if __name__ == "__main__":
    main()
