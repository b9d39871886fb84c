"""What the commands of studies share: options beside --resume, and verdicts in the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from leray.errors import LerayError

if TYPE_CHECKING:
    from rich.table import Table

COLOURS = {"supported": "green", "refuted": "red", "undecided": "yellow"}


def refuse_beside_resume(options: Any, names: tuple[str, ...]) -> None:
    """Refuse options that belong to a run which is resumed.

    Args:
        options: A dataclass of options with defaults, and their ``names``.

    Raises:
        LerayError: One is not at its default.
    """
    default = type(options)()
    given = [f"--{n}" for n in names if getattr(options, n) != getattr(default, n)]
    if given:
        raise LerayError(
            f"{', '.join(given)} beside --resume: the run's own settings hold; leave it out, or "
            "start a new run without --resume"
        )


def verdict_table(verdicts: list[dict[str, Any]], number: str) -> Table:
    """Claims, verdicts, estimates and intervals.

    Args:
        number: The format of a number, such as ``+.4f``.
    """
    from rich.table import Table
    from rich.text import Text

    from leray.evidence.verdict import NOT_JUDGED

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("claim", "verdict", "estimate", "interval", "status"):
        table.add_column(heading)
    for v in verdicts:
        ends = v["interval"]
        table.add_row(
            Text(f"{v['claim']} {v['statement']}"),
            Text("not judged", style="bold")
            if v["method"] == NOT_JUDGED
            else Text(v["verdict"], style=f"bold {COLOURS[v['verdict']]}"),
            "–" if v["estimate"] is None else format(v["estimate"], number),
            "–" if ends is None else f"[{ends[0]:{number}}, {ends[1]:{number}}]",
            v["status"],
        )
    return table
