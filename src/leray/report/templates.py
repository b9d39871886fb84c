"""The templates of reports: everything that comes from data is escaped."""

from __future__ import annotations

import functools
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

_HERE = Path(__file__).parent


@functools.cache
def template(name: str) -> Template:
    """A template of this folder; a name that it is not given is an error."""
    environment = Environment(
        loader=FileSystemLoader(_HERE, encoding="utf-8"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(name)


def style() -> Markup:
    """The style sheet of all pages."""
    return Markup((_HERE / "style.css").read_text(encoding="utf-8"))
