"""Weights of a linear score over named signals, as a person keeps and shares them.

    score(q, i) = Σ_j w_j · x_j(q, i),

with x_j the signals of `leray.memory.blocks.ALL` and τ the time constant of ``decay``. Whatever
method fitted them (Pearson's optimum, nDCG, logistic regression), they are one JSON object, which
says where it came from and how sure its numbers are (``docs/memory.md``). Such a file comes from
anywhere, so reading it checks everything.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from leray.errors import LerayError, nearest
from leray.evidence.bootstrap import Interval
from leray.memory.blocks import ALL

Array = np.ndarray
FORMAT = "leray.weights/1"
LARGEST = 1e15
"""What a file may hold: a logistic weight of a signal that hardly varies can be 10¹⁴, since it is
in the signal's own unit; beyond, scores lose all other signals to rounding."""
Fact = str | int | float | bool | None
_KEYS = (
    "format", "method", "kind", "tau_seconds", "weights", "intervals", "calibration", "embedder",
    "provenance",
)  # fmt: skip
_INTERVAL_KEYS = ("low", "high", "level", "kind", "n")
_CALIBRATION_KEYS = ("intercept", "slope", "r", "optimality_residual", "named_columns")


@dataclass(frozen=True, kw_only=True, slots=True)
class Calibration:
    """The least-squares line from score to importance: intercept + slope · score.

    Args:
        intercept, slope: Of the line.
        r: Pearson's correlation of the score with the truth it was fitted on.
        optimality_residual: The largest violation of the optimality conditions; 0 is exact.
        named_columns: Whether the model was fitted on a table with named columns.
    """

    intercept: float
    slope: float
    r: float
    optimality_residual: float
    named_columns: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Embedder:
    """The sentence encoder that weights were fitted with: its name, and a hash of its files."""

    name: str
    fingerprint: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class LinearWeights:
    """A weight for each of some signals, with what makes them usable and checkable.

    Args:
        method: What fitted them, such as ``pearson`` or ``logistic``.
        signals: Names out of `leray.memory.blocks.ALL`, each once.
        values: Their weights, ``[len(signals)]``, in the signals' own units.
        tau: The time constant of ``decay`` in seconds; None where ``decay`` has no weight.
        intervals: One a signal, where they are known.
        calibration: The line from score to importance, where it is known.
        embedder: What gave the embeddings, where it is known.
        provenance: Data, run, seed, date, version and the like.

    Raises:
        LerayError: An unknown signal, one that comes twice, a number that is not finite, weights
            that are all zero, or lengths that differ.
    """

    method: str
    signals: tuple[str, ...]
    values: Array
    tau: float | None = None
    intervals: tuple[Interval, ...] | None = None
    calibration: Calibration | None = None
    embedder: Embedder | None = None
    provenance: Mapping[str, Fact] = field(default_factory=dict)

    def __post_init__(self) -> None:
        values = np.array(self.values, dtype=np.float64)
        values.flags.writeable = False
        object.__setattr__(self, "values", values)
        _check_signals(self.signals)
        if values.shape != (len(self.signals),):
            raise LerayError(
                f"weights: {len(self.signals)} signals need as many weights; their shape is "
                f"{values.shape}"
            )
        if not np.isfinite(values).all() or not values.any():
            raise LerayError(
                f"weights are {values.tolist()}; allowed: finite numbers, not all zero"
            )
        if self.tau is not None and not (math.isfinite(self.tau) and self.tau > 0):
            raise LerayError(f"tau is {self.tau}; allowed: seconds, finite and above 0")
        if self.tau is None and self.active.get("decay"):
            raise LerayError("decay has a weight, so tau is needed: its time constant in seconds")
        if self.intervals is not None and len(self.intervals) != len(self.signals):
            raise LerayError(
                f"{len(self.signals)} signals need as many intervals; {len(self.intervals)} came"
            )

    @property
    def kind(self) -> str:
        """``simplex``: none negative and their sum is 1; otherwise ``signed``."""
        on_simplex = (self.values >= 0).all() and abs(self.values.sum() - 1) <= 1e-6
        return "simplex" if on_simplex else "signed"

    @property
    def active(self) -> dict[str, float]:
        """The signals whose weight is not zero: only they need to be computed."""
        pairs = zip(self.signals, self.values.tolist(), strict=True)
        return {name: w for name, w in pairs if w != 0}

    def to_json(self) -> str:
        """One JSON object, indented for reading; numbers keep all their digits."""
        names = self.signals
        content: dict[str, Any] = {
            "format": FORMAT,
            "method": self.method,
            "kind": self.kind,
            "tau_seconds": self.tau,
            "weights": dict(zip(names, self.values.tolist(), strict=True)),
        }
        if self.intervals is not None:
            pairs = zip(names, self.intervals, strict=True)
            content["intervals"] = {name: _interval_fields(i) for name, i in pairs}
        if (c := self.calibration) is not None:
            content["calibration"] = {key: getattr(c, key) for key in _CALIBRATION_KEYS}
        if (e := self.embedder) is not None:
            content["embedder"] = {"name": e.name, "fingerprint": e.fingerprint}
        content["provenance"] = dict(self.provenance)
        return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> LinearWeights:
        """Read what `to_json` wrote, or what somebody wrote by hand.

        Raises:
            LerayError: One line that says what is wrong with it.
        """
        content = _object(_parse(text), "the file", _KEYS, required=("format", "weights"))
        if content["format"] != FORMAT:
            raise LerayError(
                f"weights of format {content['format']!r:.60} are not known; allowed: {FORMAT!r} "
                "(a newer file needs a newer leray)"
            )
        weights = _object(content["weights"], "'weights'", None)
        _check_signals(tuple(weights))
        values = np.array([_weight(v, k) for k, v in weights.items()])
        tau = content.get("tau_seconds")
        read = cls(
            method=_text(content.get("method", "unnamed"), "'method'"),
            signals=tuple(weights),
            values=values,
            tau=None if tau is None else _number(tau, "'tau_seconds'"),
            intervals=_intervals(content.get("intervals"), weights),
            calibration=_calibration(content.get("calibration")),
            embedder=_embedder(content.get("embedder")),
            provenance=_provenance(content.get("provenance")),
        )
        if content.get("kind", read.kind) != read.kind:
            raise LerayError(f"'kind' is {content['kind']!r:.40}, but the weights are {read.kind}")
        return read


def _check_signals(names: Sequence[str]) -> None:
    if not names:
        raise LerayError(f"weights name no signal; allowed: {', '.join(ALL)}")
    for k, name in enumerate(names):
        if name not in ALL:
            raise LerayError(
                f"unknown signal {name!r:.60}{nearest(name, ALL)}; allowed: {', '.join(ALL)}"
            )
        if name in names[:k]:
            raise LerayError(f"signal {name!r} comes twice; allowed: once")


def _parse(text: str) -> Any:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        keys = [key for key, _ in pairs]
        twice = next((k for i, k in enumerate(keys) if k in keys[:i]), None)
        if twice is not None:
            raise LerayError(f"weights: key {twice!r:.60} comes twice; allowed: once")
        return dict(pairs)

    def refuse(constant: str) -> float:
        raise LerayError(f"weights: {constant} is no number of JSON; allowed: finite numbers")

    try:
        return json.loads(text, object_pairs_hook=once, parse_constant=refuse)
    except LerayError:
        raise
    except RecursionError:
        raise LerayError("weights: not JSON of ours (nested too deeply)") from None
    except ValueError as error:  # a JSONDecodeError, or a whole number of too many digits
        raise LerayError(f"weights: not JSON ({error})") from None


def _object(
    value: Any, what: str, known: Sequence[str] | None, *, required: Sequence[str] = ()
) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise LerayError(f"weights: {what} is {_kind(value)}; allowed: an object in braces")
    for key in value if known is not None else ():
        if key not in (known or ()):
            hint = nearest(key, known or ())
            raise LerayError(f"weights: unknown key {key!r:.60} in {what}{hint}")
    for key in required:
        if key not in value:
            raise LerayError(f"weights: {what} has no key {key!r}")
    return value


def _number(value: Any, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise LerayError(f"weights: {what} is {_kind(value)}; allowed: a finite number")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise LerayError(f"weights: {what} is not finite; allowed: a finite number")
    return number


def _weight(value: Any, name: str) -> float:
    number = _number(value, f"the weight of {name!r}")
    if abs(number) > LARGEST:
        raise LerayError(
            f"weights: the weight of {name!r} is {number:g}; allowed: within ±{LARGEST:g}"
        )
    return number


def _text(value: Any, what: str) -> str:
    if not isinstance(value, str):
        raise LerayError(f"weights: {what} is {_kind(value)}; allowed: text in quotes")
    return value


def _interval_fields(interval: Interval) -> dict[str, Any]:
    """An open end is null: JSON has no infinity."""
    ends = {end: getattr(interval, end) for end in ("low", "high")}
    finite = {end: value if math.isfinite(value) else None for end, value in ends.items()}
    return {**finite, "level": interval.level, "kind": interval.kind, "n": interval.n}


def _intervals(value: Any, weights: Mapping[str, Any]) -> tuple[Interval, ...] | None:
    if value is None:
        return None
    table = _object(value, "'intervals'", list(weights), required=list(weights))
    return tuple(_interval(name, table[name], float(w)) for name, w in weights.items())


def _interval(name: str, value: Any, estimate: float) -> Interval:
    what = f"the interval of {name!r}"
    fields = _object(value, what, _INTERVAL_KEYS, required=_INTERVAL_KEYS)
    low, high = fields["low"], fields["high"]
    interval = Interval(
        estimate=estimate,
        low=-math.inf if low is None else _number(low, f"'low' of {what}"),
        high=math.inf if high is None else _number(high, f"'high' of {what}"),
        level=_number(fields["level"], f"'level' of {what}"),
        kind=_text(fields["kind"], f"'kind' of {what}"),
        n=int(_number(fields["n"], f"'n' of {what}")),
    )
    if interval.low > interval.high or not 0 < interval.level < 1:
        raise LerayError(
            f"weights: {what} is [{interval.low:g}, {interval.high:g}] at level "
            f"{interval.level:g}; allowed: low ≤ high, and a level between 0 and 1"
        )
    return interval


def _calibration(value: Any) -> Calibration | None:
    if value is None:
        return None
    fields = _object(value, "'calibration'", _CALIBRATION_KEYS, required=_CALIBRATION_KEYS[:-1])
    numbers = {k: _number(fields[k], f"{k!r} of 'calibration'") for k in _CALIBRATION_KEYS[:-1]}
    return Calibration(**numbers, named_columns=fields.get("named_columns") is True)


def _embedder(value: Any) -> Embedder | None:
    if value is None:
        return None
    fields = _object(value, "'embedder'", ("name", "fingerprint"), required=("name",))
    mark = fields.get("fingerprint")
    return Embedder(
        name=_text(fields["name"], "'name' of 'embedder'"),
        fingerprint=None if mark is None else _text(mark, "'fingerprint' of 'embedder'"),
    )


def _provenance(value: Any) -> dict[str, Fact]:
    facts = {} if value is None else _object(value, "'provenance'", None)
    for key, fact in facts.items():
        if not isinstance(fact, Fact):
            raise LerayError(
                f"weights: {key!r:.60} of 'provenance' is {_kind(fact)}; allowed: text, a number, "
                "true, false or null"
            )
    return facts


def _kind(value: Any) -> str:
    """What a JSON value is, in words."""
    kinds = {dict: "an object", list: "a list", str: "text", bool: "true or false"}
    return "null" if value is None else kinds.get(type(value), "a number")
