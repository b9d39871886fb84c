"""Configuration as TOML, written so that ``tomllib`` reads back what was given."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


def to_toml(values: Mapping[str, Any]) -> str:
    """A TOML document of strings, numbers, booleans, lists of these, and tables.

    Raises:
        TypeError: Another kind of value; TOML has none for None, so leave such a key out.

    >>> print(to_toml({"seed": 7, "grid": {"steps": [1, 2]}}), end="")
    seed = 7
    <BLANKLINE>
    [grid]
    steps = [1, 2]
    """
    return "\n".join(_tables(values, ())).lstrip("\n") + "\n"


def _tables(values: Mapping[str, Any], path: tuple[str, ...]) -> list[str]:
    plain = {k: v for k, v in values.items() if not isinstance(v, Mapping)}
    lines = ["", f"[{'.'.join(map(_key, path))}]"] if path else []
    lines += [f"{_key(k)} = {_value(k, v)}" for k, v in plain.items()]
    for name, table in values.items():
        if isinstance(table, Mapping):
            lines += _tables(table, (*path, name))
    return lines


def _key(name: str) -> str:
    return name if BARE_KEY.fullmatch(name) else _text(name)


def _value(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, list | tuple):
        return f"[{', '.join(_value(name, v) for v in value)}]"
    raise TypeError(f"{name!r} is {type(value).__name__}, which a configuration cannot hold")


def _text(text: str) -> str:
    """A basic string: JSON's escapes are TOML's, save that TOML also escapes DEL."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
