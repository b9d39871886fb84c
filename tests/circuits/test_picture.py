"""The picture that `leray circuits find --picture` draws."""

from __future__ import annotations

import json
import re
from xml.etree import ElementTree

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from leray.cli import main
from leray.figures.circuit import circuit_picture
from leray.figures.wiring import BOX, MOST, wires_of, wiring_of
from leray.runs import files

SVG = "{http://www.w3.org/2000/svg}"


def result(edges, **given):
    """As the command tells it: edges in the order of their scores."""
    told = {
        "model": "planted:made",
        "task": None,
        "weights": "",
        "examples": 64,
        "seed": 0,
        "edges": 9 + len(edges),
        "nodes": 1000,
        "layers": 12,
        "size": len(edges),
        "kept": 0.93,
        "kept_by_chance": -0.02,
        "ablation": "resample",
        "scored_by": "effect",
        "circuit": [{"edge": e, "score": 2.0 - k / len(edges)} for k, e in enumerate(edges)],
    }
    return told | given


def edges_of(num_layers, num_heads):
    """All edges of a decoder, the heads' inputs apart."""
    sources, found = ["token", "position"], []
    for i in range(num_layers):
        heads = [f"layers.{i}.heads.{h}" for h in range(num_heads)]
        reading = [f"{head}.{part}" for head in heads for part in ("query", "key", "value")]
        found += [f"{s} → {t}" for t in reading for s in sources]
        sources += heads
        found += [f"{s} → layers.{i}.mlp" for s in sources]
        sources.append(f"layers.{i}.mlp")
    return [*found, *(f"{s} → output" for s in sources)]


EVERY = edges_of(4, 3)


def drawn_edges(svg):
    """Their names, from what is said where a pointer rests on them."""
    groups = ElementTree.fromstring(svg).iter(f"{SVG}g")
    own = [g for g in groups if g.get("id", "").startswith("circuit-edge-")]
    return [g.findtext(f"{SVG}title", "").rpartition(":")[0] for g in own]


def texts(svg):
    return [t.text or "" for t in ElementTree.fromstring(svg).iter(f"{SVG}text")]


@pytest.mark.parametrize("size", [1, 7, MOST, MOST + 1, 2 * MOST])
def test_every_edge_is_drawn_or_counted(size):
    """Identity: the strongest are drawn, each once, and the number of the others is said."""
    edges = edges_of(12, 9)
    order = torch.randperm(len(edges), generator=torch.Generator().manual_seed(size))
    chosen = [edges[i] for i in order[:size].tolist()]
    picture = circuit_picture(result(chosen))
    assert sorted(drawn_edges(picture.svg)) == sorted(chosen[:MOST])
    said = f"{size - MOST} weaker edge"
    assert (said in picture.caption) == (size > MOST)
    assert " ".join(texts(picture.svg)).count("weaker edge") == (size > MOST)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from(EVERY), min_size=1, max_size=60, unique=True))
def test_wires_are_joined_and_nodes_do_not_overlap(edges):
    """Identity: wires lead up from their source to their own input; boxes stand apart."""
    wiring = wiring_of(wires_of(result(edges)["circuit"]), 4)
    boxes = {box.name: box for box in wiring.boxes}
    trunks = {trunk.source: trunk.places for trunk in wiring.trunks}
    assert boxes.keys() == {n for w in wiring.wires for n in (w.source, w.target)}
    for branch in wiring.branches:
        wire = wiring.wires[branch.number]
        source, target = boxes[wire.source], boxes[wire.target]
        starts = [(x, top) for x, _, top in trunks.get(wire.source, ())]
        starts.append((source.x, source.y + source.height))
        assert any(branch.start == pytest.approx(start) for start in starts)
        assert branch.end[1] == target.y > branch.start[1]
        assert abs(branch.end[0] - target.x) <= target.width / 2
    for a in wiring.boxes:
        assert -1e-6 <= a.x - a.width / 2 <= a.x + a.width / 2 <= wiring.width + 1e-6
        beside = [b for b in wiring.boxes if b.y == a.y and b.x > a.x]
        assert all(b.x - a.x >= (a.width + b.width) / 2 for b in beside)
        assert a.width >= BOX
        passing = [x for own in trunks.values() for x, low, _ in own[1:] if low == a.y]
        assert all(abs(x - a.x) > a.width / 2 for x in passing)


def test_inputs_stand_apart_by_place_and_letter():
    """Identity: queries left of keys left of values; letters, so that colour is not alone."""
    parts = ("query", "key", "value")
    wiring = wiring_of(
        wires_of(result([f"token → layers.0.heads.0.{p}" for p in parts])["circuit"]), 1
    )
    ends = [branch.end[0] for branch in wiring.branches]
    assert ends == sorted(ends)
    svg = circuit_picture(result([f"token → layers.0.heads.0.{p}" for p in parts])).svg
    assert [t for t in texts(svg) if t in {"q", "k", "v"}] == ["q", "k", "v"]
    assert {"q query", "k key", "v value"} <= set(texts(svg))
    assert "into an MLP" not in texts(svg)


def test_layers_without_a_node_are_said():
    wires = wires_of(result(["token → layers.3.mlp", "layers.3.mlp → layers.5.mlp"])["circuit"])
    labels = [band.label for band in wiring_of(wires, 9).bands]
    assert labels == ["no layers 0–2", "layer 3", "no layer 4", "layer 5", "no layers 6–8"]


def test_text_is_escaped_and_stays_text():
    """Identity: what stands in the result is neither markup nor mathematics nor control."""
    evil = '<script>alert("1")</script> & $x_1$ \x00\x1b[31m\u202e'
    edges = [f"{evil} → layers.0.mlp", "layers.0.mlp → output"]
    told = result(edges, model=evil, task="]]> & <b>", weights="a < b & c")
    picture = circuit_picture(told)
    assert "<script" not in picture.svg
    tree = ElementTree.fromstring(picture.svg)
    assert {e.tag.removeprefix(SVG) for e in tree.iter()} <= {
        "svg", "title", "desc", "defs", "g", "path", "text", "clipPath", "rect", "use"
    }  # fmt: skip
    assert any('<script>alert("1")</script> & $x_1$' in t for t in texts(picture.svg))
    assert "]]> & <b>" in tree.findtext(f"{SVG}title", "")
    assert not set(re.findall("[\x00-\x08\x1b\u202e]", picture.svg))
    long = circuit_picture(result(EVERY[:3], model="a/" * 200 + "last"))
    assert any(t.startswith("…") and t.endswith("/last") for t in texts(long.svg))


def test_the_same_result_gives_the_same_bytes():
    told = result(EVERY[::7])
    assert circuit_picture(told).svg == circuit_picture(json.loads(json.dumps(told))).svg


def test_widths_follow_scores_or_places():
    """Identity: the strongest edge is widest; where scores are places, their order counts."""

    def widths(told):
        found = re.findall(r"edge-\d+\">.*?stroke-width: ([\d.]+)", circuit_picture(told).svg, re.S)
        return sorted(map(float, found))

    edges = EVERY[:4]
    rows = [{"edge": e, "score": s} for e, s in zip(edges, (4.0, 1.0, 0.0, -1.0), strict=True)]
    assert widths(result(edges, circuit=rows)) == pytest.approx([0.7, 0.7, 1.65, 2.6])
    places = [{"edge": e, "score": 1 - 1e-5 * k} for k, e in enumerate(edges)]
    assert "lost without the edge: -1 to 4" in texts(
        circuit_picture(result(edges, circuit=rows)).svg
    )
    told = result(edges, circuit=places, scored_by="place")
    assert "from the last to the first in order" in texts(circuit_picture(told).svg)
    assert widths(told) == pytest.approx([1.175, 1.65, 2.125, 2.6])


def test_golden_run(tmp_path, capsys):
    """What is drawn is what is told; twice the same file; a PNG by its name."""
    path = tmp_path / "sort.svg"
    options = ["circuits", "find", "--model", "planted:sort"]
    assert main([*options, "--picture", str(path), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    svg = path.read_text()
    assert sorted(drawn_edges(svg)) == sorted(row["edge"] for row in told["circuit"])
    assert told["kept"] == pytest.approx(1, abs=1e-6)
    assert told["kept_by_chance"] < 0.5
    said = texts(svg)
    assert "planted:sort" in said
    assert "13 of 59 edges keep 1.000 of what it does; 13 drawn at random keep 0.000." in said
    assert len(svg) < 60_000
    assert [p.name for p in tmp_path.iterdir()] == ["sort.svg"]
    png = tmp_path / "sort.png"
    assert main([*options, "--picture", str(png)]) == 0
    assert png.read_bytes().startswith(b"\x89PNG")
    out = capsys.readouterr().out
    assert "  layers.1.mlp ← token (1), layers.1.heads.0 (0.906)\n" in out
    assert main([*options, "--picture", str(path)]) == 0
    assert path.read_text() == svg


def test_files_that_cannot_be_drawn_into(tmp_path, monkeypatch, capsys):
    """One line each, before the work where that can be known; never half a file."""
    options = ["circuits", "find", "--model", "planted:first"]
    (tmp_path / "folder.svg").mkdir()
    one = str(tmp_path / "one.svg")
    for more, told in (
        (["--picture", str(tmp_path / "a.pdf")], "--picture must end in .png or .svg"),
        (["--picture", str(tmp_path / "none" / "a.svg")], "is a folder, or lies in none"),
        (["--picture", str(tmp_path / "folder.svg")], "is a folder, or lies in none"),
        (["--picture", one, "--out", one], "--out and --picture are one file"),
        (["--out", one], "--out must end in .safetensors; got "),
    ):
        assert main([*options, *more]) == 1
        err = capsys.readouterr().err
        assert told in err
        assert err.startswith("error: ")
        assert err.count("\n") == 1
    (tmp_path / "old.svg").write_text("old")

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    for name in ("old.svg", "new.svg"):
        assert main([*options, "--picture", str(tmp_path / name)]) == 1
        assert capsys.readouterr().err.count("\n") == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["folder.svg", "old.svg"]
    assert (tmp_path / "old.svg").read_text() == "old"
