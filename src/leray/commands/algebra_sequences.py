"""`leray algebra sequence`: exactness node by node, and the long exact sequence of a short one."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from leray.algebra.exact import LongExactSequence, Node, ShortExactSequence
    from leray.algebra.fields import Field, Matrix
    from leray.algebra.rank import RankCertificate
    from leray.data.complexes import MapSequence

_SHOWN = 12  # rows and columns of a matrix that a table shows


@dataclass(frozen=True, kw_only=True)
class AlgebraSequence:
    """Options of `leray algebra sequence`.

    Args:
        file: A JSON file of maps that follow each other, judged with zeros at both ends, or of a
            short exact sequence of complexes.
        field: Q, a prime for the integers modulo it, float64 or float32.
        json: One JSON object on stdout instead of a table.
    """

    file: Path
    field: str = "Q"
    json: bool = False

    def run(self) -> int:
        """Read, judge and print; what is not exact is a result, and exits 0 too."""
        from leray.algebra.fields import field_named
        from leray.data.complexes import MapSequence, read_sequence

        field = field_named(self.field)
        found = read_sequence(self.file, field)
        result = _of_maps(found, field) if isinstance(found, MapSequence) else _of_complexes(found)
        if self.json:
            print(json.dumps(result, ensure_ascii=False))
            return 0
        _table(result["nodes"])
        for one in result.get("connecting", ()):
            _matrix(one)
        exact = {True: "exact", False: "not exact", None: "undecided"}[result["is_exact"]]
        ends = "" if "connecting" in result else ", with zeros at both ends"
        print(f"{exact} over {field.name}{ends}", file=sys.stderr)
        return 0


def _of_maps(found: MapSequence, field: Field) -> dict[str, Any]:
    from leray.algebra.exact import exactness

    nodes = [_node(node) for node in exactness(found.maps, field, found.names)]
    judged = [node["is_exact"] for node in nodes]
    whole = False if False in judged else None if None in judged else True
    return {"field": field.name, "is_exact": whole, "nodes": nodes}


def _of_complexes(found: ShortExactSequence) -> dict[str, Any]:
    long = found.long_exact_sequence()
    nodes = [_node(node) for node in long.nodes]
    return {
        "field": found.field.name,
        "is_exact": all(node["is_exact"] for node in nodes),
        "nodes": nodes,
        "connecting": _connecting(long),
    }


def _node(node: Node) -> dict[str, Any]:
    """A node for JSON; None for what an undecided rank leaves open."""
    decided = node.incoming.decided and node.outgoing.decided
    return {
        "name": node.name,
        "dim": node.dim,
        "rank_in": _rank(node.incoming),
        "rank_out": _rank(node.outgoing),
        "composition": node.composition,
        "is_complex": node.is_complex,
        "defect": node.defect if decided else None,
        "is_exact": node.is_exact if decided or not node.is_complex else None,
        "incoming": node.incoming.plain(),
        "outgoing": node.outgoing.plain(),
    }


def _rank(certificate: RankCertificate) -> int | None:
    return certificate.rank if certificate.decided else None


def _connecting(long: LongExactSequence) -> list[dict[str, Any]]:
    """The maps Hⁿ(C) → Hⁿ⁺¹(A), every third of the sequence."""
    made = []
    for i in range(2, len(long.maps), 3):
        source, target, matrix = long.nodes[i], long.nodes[i + 1], long.maps[i]
        made.append(
            {
                "from": source.name, "to": target.name, "rank": source.outgoing.value(),
                "shape": list(matrix.shape), "matrix": _entries(matrix, long.field),
            }
        )  # fmt: skip
    return made


def _entries(matrix: Matrix, field: Field) -> list[list[Any]]:
    """A matrix for JSON: integers and text such as "1/2" over ℚ, numbers otherwise."""
    if field.name != "Q":
        return matrix.tolist()
    return [[int(x.p) if x.q == 1 else str(x) for x in row] for row in matrix.tolist()]


def _table(nodes: list[dict[str, Any]]) -> None:
    wide = max(5, *(len(node["name"]) for node in nodes))
    print(f"{'space':{wide}s}  {'dim':>6s}  {'rank in':>9s}  {'rank out':>9s}", file=sys.stderr)
    for node in nodes:
        ranks = (node["rank_in"], node["rank_out"])
        said = "  ".join(f"{'undecided' if r is None else f'{r:,}':>9s}" for r in ranks)
        print(f"{node['name']:{wide}s}  {node['dim']:6,}  {said}  {_verdict(node)}",
              file=sys.stderr)  # fmt: skip


def _verdict(node: dict[str, Any]) -> str:
    if node["is_exact"]:
        return "exact"
    if node["is_exact"] is None:
        return "undecided: the error bound of a rank leaves it open; see --json"
    if not node["is_complex"]:
        return f"not exact: the composition is not 0 (relative size {node['composition']:.3g})"
    return f"not exact: dim ker/im = {node['defect']:,}"


def _matrix(one: dict[str, Any]) -> None:
    rows, columns = one["shape"]
    if 0 in (rows, columns):
        return
    print(f"\n{one['from']} → {one['to']}, of rank {one['rank']:,}", file=sys.stderr)
    if max(rows, columns) > _SHOWN:
        print(f"  a matrix of {rows:,} × {columns:,}: see --json", file=sys.stderr)
        return
    text = [[f"{x:.6g}" if isinstance(x, float) else str(x) for x in row] for row in one["matrix"]]
    wide = max(len(x) for row in text for x in row)
    for row in text:
        print("  " + "  ".join(x.rjust(wide) for x in row), file=sys.stderr)
