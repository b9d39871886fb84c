"""What a training run is: the tables of its TOML file, each the dataclass of the code it sets."""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from leray.errors import LerayError, nearest
from leray.lm.checks import check_bounds
from leray.lm.config import ModelConfig
from leray.lm.losses import LossConfig
from leray.lm.optimizer import OptimizerConfig
from leray.lm.settling import SettlingConfig


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """What is read."""

    text: str = "stdlib"
    """A file, a pattern of files, a folder, or the embedded default."""
    tokens: str = "bytes"
    """``bytes``; ``bpe:N`` or ``words:N`` for N tokens at most of the training split."""
    context: int = 256
    """Tokens of a window."""
    num_sequences: int = 8
    """Windows of a step, over all devices."""
    growing: float = 0.0
    """The share of the steps in which documents are drawn from the first ones, more and more."""

    def __post_init__(self) -> None:
        check_bounds(
            context=(self.context, 1, 2**24),
            num_sequences=(self.num_sequences, 1, 2**20),
            growing=(self.growing, 0, 1),
        )


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """How long, and how often it is saved."""

    num_steps: int = 400
    interval: int = 25
    """Steps between checkpoints: what a power cut costs at most."""
    accumulate: int = 1
    """Parts of a step's windows that go through the model one after the other."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of activations on CUDA, by autocast."""
    compile: bool = False
    """By ``torch.compile``."""
    parallel: Literal["replicated", "sharded"] = "replicated"
    """What each of several processes holds: all weights and moments, or its part of them."""

    def __post_init__(self) -> None:
        check_bounds(
            num_steps=(self.num_steps, 1, 10**8),
            interval=(self.interval, 1, 10**8),
            accumulate=(self.accumulate, 1, 2**20),
        )


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """A whole run but its seed."""

    model: ModelConfig
    data: DataConfig = field(default_factory=DataConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    settling: SettlingConfig = field(default_factory=SettlingConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)

    def __post_init__(self) -> None:
        self.loss.check(self.model)
        self.settling.check(self.model)
        wide = [w for w in self.model.windows if w >= self.data.context]
        if wide:
            raise ValueError(
                f"a window of {wide[0]} has no effect on a context of {self.data.context}; "
                "give 0 for a layer that sees all of it"
            )
        if self.data.growing and not self.loss.answers:
            raise ValueError("growing has no effect without answers = true in the loss")
        if self.data.num_sequences % self.schedule.accumulate:
            raise ValueError(
                f"accumulate must divide num_sequences, {self.data.num_sequences}; got "
                f"{self.schedule.accumulate}"
            )


TABLES: dict[str, type] = {
    "model": ModelConfig,
    "data": DataConfig,
    "optimizer": OptimizerConfig,
    "loss": LossConfig,
    "settling": SettlingConfig,
    "schedule": ScheduleConfig,
}


def read_configuration(path: Path) -> dict[str, Any]:
    """The tables of a TOML file, unchecked.

    Raises:
        LerayError: The file cannot be read or is no TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise LerayError(f"no configuration at {str(path)!r}") from error
    except OSError as error:
        raise LerayError(f"cannot read {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise LerayError(f"{path} is no TOML: {error}") from error


def configuration_of(tables: Mapping[str, Any], num_tokens: int, where: str) -> TrainingConfig:
    """The checked configuration; ``num_tokens`` is the vocabulary's.

    Raises:
        LerayError: An unknown table or key, a value of another kind, or one that is not allowed.
    """
    for name in tables:
        if name not in TABLES:
            allowed = ", ".join(f"[{t}]" for t in TABLES)
            raise LerayError(
                f"{where}: no table [{name}]; there is {allowed}{nearest(name, TABLES)}"
            )
    made = {name: _made(kind, name, tables, num_tokens, where) for name, kind in TABLES.items()}
    try:
        return TrainingConfig(**made)
    except ValueError as error:
        raise LerayError(f"{where}: {error}") from error


def tables_of(config: TrainingConfig) -> dict[str, Any]:
    """As a TOML file holds it: every setting that is not None or a size."""
    return {name: set_settings(getattr(config, name)) for name in TABLES}


def set_settings(part: Any) -> dict[str, Any]:
    """One table: what `settings_of` reads back."""
    values = {f.name: getattr(part, f.name) for f in dataclasses.fields(part)}
    return {k: v for k, v in values.items() if v is not None and k not in SIZES}


def _made(kind: type, name: str, tables: Mapping[str, Any], num_tokens: int, where: str) -> Any:
    given = tables.get(name, {})
    if not isinstance(given, Mapping):
        raise LerayError(f"{where}: [{name}] must be a table of settings; got {given!r:.60}")
    values = settings_of(kind, given, f"{where}: [{name}]")
    try:
        return kind(**values, **({"num_tokens": num_tokens} if kind is ModelConfig else {}))
    except ValueError as error:
        raise LerayError(f"{where}: [{name}] {error}") from error


SIZES = ("num_tokens", "num_classes")
"""What no file of settings says, for the text does."""


def settings_of(
    kind: type, given: Mapping[str, Any], where: str, *, sizes: bool = False
) -> dict[str, Any]:
    """The settings of a dataclass, each of its field's type.

    Raises:
        LerayError: An unknown name, or a value of another type.
    """
    hints = get_type_hints(kind)
    known = [f.name for f in dataclasses.fields(kind) if sizes or f.name not in SIZES]
    for key in given:
        if key not in known:
            raise LerayError(f"{where} has no setting {key!r:.60}{nearest(key, known)}")
    return {k: _value(v, hints[k], f"{where} {k}") for k, v in given.items()}


def _value(value: Any, hint: Any, where: str) -> Any:
    """The value as its field wants it: whole numbers as floats, lists as tuples."""
    if get_origin(hint) in (Union, UnionType):
        hint = next(h for h in get_args(hint) if h is not type(None))
    if get_origin(hint) is Literal:
        if value not in get_args(hint):
            raise LerayError(
                f"{where} must be one of {', '.join(get_args(hint))}; got {value!r:.60}"
            )
        return value
    if get_origin(hint) is tuple:
        if not isinstance(value, list | tuple):
            raise LerayError(f"{where} must be a list; got {value!r:.60}")
        return tuple(_value(v, get_args(hint)[0], where) for v in value)
    if hint is float and type(value) is int:
        value = float(value)
    if type(value) is not hint:
        raise LerayError(f"{where} must be {hint.__name__}; got {value!r:.60}")
    return value
