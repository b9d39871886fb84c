"""The weights file: what is written is read back, and nothing else is believed."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from leray.errors import LerayError
from leray.evidence.bootstrap import Interval
from leray.integrations.weights_file import read_weights, write_weights
from leray.memory.blocks import ALL
from leray.memory.weights import Calibration, Embedder, LinearWeights

FINITE = st.floats(-1e15, 1e15)
GOOD = {"format": "leray.weights/1", "tau_seconds": 60, "weights": {"decay": 0.25, "lexical": 0.75}}


def example() -> LinearWeights:
    """Weights with everything that a file can hold."""
    ends = ((-0.5, 1.0, "jackknife-t"), (0.0, math.inf, "lower"))
    return LinearWeights(
        method="pearson",
        signals=("decay", "lexical"),
        values=np.array([0.25, 0.75]),
        tau=60.0,
        intervals=tuple(
            Interval(estimate=w, low=a, high=b, level=0.95, kind=kind, n=10)
            for w, (a, b, kind) in zip((0.25, 0.75), ends, strict=True)
        ),
        calibration=Calibration(intercept=0.1, slope=2.0, r=0.5, optimality_residual=0.0),
        embedder=Embedder(name="minilm", fingerprint="abc"),
        provenance={"data": "own.jsonl", "seed": 3, "share": 0.5, "complete": True, "run": None},
    )


def test_the_file_reads_like_this() -> None:
    """Golden: the text, so that the format cannot change unseen."""
    assert example().to_json() == (
        "{\n"
        '  "format": "leray.weights/1",\n'
        '  "method": "pearson",\n'
        '  "kind": "simplex",\n'
        '  "tau_seconds": 60.0,\n'
        '  "weights": {\n    "decay": 0.25,\n    "lexical": 0.75\n  },\n'
        '  "intervals": {\n'
        '    "decay": {\n      "low": -0.5,\n      "high": 1.0,\n      "level": 0.95,\n'
        '      "kind": "jackknife-t",\n      "n": 10\n    },\n'
        '    "lexical": {\n      "low": 0.0,\n      "high": null,\n      "level": 0.95,\n'
        '      "kind": "lower",\n      "n": 10\n    }\n'
        "  },\n"
        '  "calibration": {\n    "intercept": 0.1,\n    "slope": 2.0,\n    "r": 0.5,\n'
        '    "optimality_residual": 0.0,\n    "named_columns": false\n  },\n'
        '  "embedder": {\n    "name": "minilm",\n    "fingerprint": "abc"\n  },\n'
        '  "provenance": {\n    "data": "own.jsonl",\n    "seed": 3,\n    "share": 0.5,\n'
        '    "complete": true,\n    "run": null\n  }\n'
        "}\n"
    )


def test_a_file_is_read_back_whole(tmp_path: Path) -> None:
    """Identity: intervals, calibration, embedder and provenance included."""
    path = tmp_path / "weights.json"
    write_weights(path, example())
    back = read_weights(path)
    assert back.to_json() == example().to_json()
    assert back.intervals == example().intervals
    assert back.embedder == example().embedder


@given(values=st.dictionaries(st.sampled_from(ALL), FINITE, min_size=1), tau=st.floats(1e-3, 1e12))
def test_every_linear_score_can_be_kept(values: dict[str, float], tau: float) -> None:
    """Identity: any weights within ±10¹⁵, to the last bit."""
    if not any(values.values()):
        return
    numbers = np.array(list(values.values()))
    one = LinearWeights(method="logistic", signals=tuple(values), values=numbers, tau=tau)
    back = LinearWeights.from_json(one.to_json())
    assert back.signals == one.signals
    assert back.values.tobytes() == one.values.tobytes()
    assert (back.tau, back.kind) == (tau, one.kind)


def test_weights_written_by_hand_need_little() -> None:
    """Identity: format and weights are enough."""
    read = LinearWeights.from_json('{"format": "leray.weights/1", "weights": {"lexical": 2}}')
    assert (read.active, read.kind, read.tau) == ({"lexical": 2.0}, "signed", None)


def interval(**changed: object) -> dict[str, object]:
    return {"low": 0, "high": 1, "level": 0.95, "kind": "bca", "n": 5} | changed


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "not JSON"),
        ("[1]", "the file is a list; allowed: an object in braces"),
        ("[" * 100_000, "nested too deeply"),
        ('{"format": "leray.weights/1", "weights": {"lexical": NaN}}', "NaN is no number of JSON"),
        ('{"format": "leray.weights/1", "weights": {"lexical": 1e999}}', "is not finite"),
        ('{"format": "leray.weights/1", "weights": {"lexical": ' + "9" * 5000 + "}}", "not JSON"),
        ('{"format": "leray.weights/1", "weights": {"lexical": 1, "lexical": 2}}', "comes twice"),
        ({"weights": {"lexical": 1}}, "the file has no key 'format'"),
        (GOOD | {"format": "leray.weights/9"}, "format 'leray.weights/9' are not known"),
        (GOOD | {"wieghts": {}}, "unknown key 'wieghts' in the file; did you mean 'weights'?"),
        (GOOD | {"weights": [1, 2]}, "'weights' is a list"),
        (GOOD | {"weights": {}}, "weights name no signal"),
        (GOOD | {"weights": {"relevence": 1}}, "'relevence'; did you mean 'relevance'?"),
        (GOOD | {"weights": {"decay": "much"}}, "the weight of 'decay' is text"),
        (GOOD | {"weights": {"decay": True}}, "the weight of 'decay' is true or false"),
        (GOOD | {"weights": {"decay": 10**400}}, "is not finite"),
        (GOOD | {"weights": {"lexical": 1e308}}, "weight of 'lexical' is 1e.308; allowed: within"),
        (GOOD | {"weights": {"lexical": -2e15}}, r"is -2e.15; allowed: within ±1e\+15"),
        (GOOD | {"weights": {"decay": 0}}, "allowed: finite numbers, not all zero"),
        (GOOD | {"tau_seconds": -1}, "tau is -1.0; allowed: seconds, finite and above 0"),
        (GOOD | {"tau_seconds": None}, "decay has a weight, so tau is needed"),
        (GOOD | {"kind": "signed"}, "'kind' is 'signed', but the weights are simplex"),
        (GOOD | {"intervals": {"decay": interval()}}, "'intervals' has no key 'lexical'"),
        (
            GOOD | {"intervals": {"decay": interval(low=2), "lexical": interval()}},
            r"the interval of 'decay' is \[2, 1\] at level 0.95",
        ),
        (
            GOOD | {"intervals": {"decay": interval(level=95), "lexical": interval()}},
            "a level between 0 and 1",
        ),
        (GOOD | {"calibration": {"slope": 1}}, "'calibration' has no key 'intercept'"),
        (GOOD | {"embedder": {"name": 3}}, "'name' of 'embedder' is a number"),
        (GOOD | {"provenance": {"seed": []}}, "'seed' of 'provenance' is a list"),
    ],
)
def test_a_file_that_cannot_be_believed(content: object, message: str) -> None:
    """Oracle: the one line that the user reads."""
    text = content if isinstance(content, str) else json.dumps(content)
    with pytest.raises(LerayError, match=message) as caught:
        LinearWeights.from_json(text)
    assert "\n" not in str(caught.value)


def test_the_path_is_named(tmp_path: Path) -> None:
    """Oracle: the one line that the user reads, for each way a file can be wrong."""
    path = tmp_path / "w.json"
    with pytest.raises(LerayError, match="No such file"):
        read_weights(path)
    path.write_text("{", encoding="utf-8")
    with pytest.raises(LerayError, match=r"w.json': weights: not JSON"):
        read_weights(path)
    path.write_bytes(b" " * (1 << 25))
    with pytest.raises(LerayError, match="more than 16 MiB"):
        read_weights(path)
    with pytest.raises(LerayError, match="cannot write"):
        write_weights(tmp_path / "absent" / "w.json", example())


def test_lengths_must_agree() -> None:
    """Oracle: weights built in Python are checked as well."""
    with pytest.raises(LerayError, match="2 signals need as many weights"):
        LinearWeights(method="m", signals=("length", "lexical"), values=np.array([1.0]))
    with pytest.raises(LerayError, match="'length' comes twice"):
        LinearWeights(method="m", signals=("length", "length"), values=np.array([1.0, 2.0]))
