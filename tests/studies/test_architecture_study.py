"""The architecture study: equal sizes, one error, and a golden run at toy size."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from leray.cli import main
from leray.figures.architecture import draw
from leray.studies import architecture
from leray.studies.architecture import SIZES, Part, Scale, Size, all_variants
from leray.studies.architecture_claims import CLAIMS, SIMULTANEOUS
from leray.studies.architecture_session import SEEN
from leray.studies.variants import configured, variants
from leray.train.text import read_texts
from leray.train.tokens import token_files
from leray.train.training import size_of

TOY = Part(
    scale=Scale(width=32, num_layers=3, num_heads=2, context=16, num_sequences=4, num_steps=4),
    num_seeds=2,
    rates=(1.0,),
)


@pytest.mark.parametrize("scale", ["quick", "full"])
def test_all_variants_have_the_parameters_of_the_baseline(scale):
    size = SIZES[scale]
    for part in filter(None, (size.screen, size.headline, *size.others)):
        at = part.scale
        found = {v.name: size_of(configured(v, at.tables(), 256).model) for v in all_variants(at)}
        for name, number in found.items():
            assert abs(number / found["baseline"] - 1) <= 0.005, name


def test_every_claim_has_one_variant_and_its_opponent():
    all_of_them = variants(64, 4, 128, 60)
    names = {v.name for v in all_of_them}
    assert len(names) == len(all_of_them)
    more = {"S7", "S8", "S9", "S15"}  # of the inside of models, or of models that begin as others
    claimed = [v.claim for v in all_of_them if v.claim]
    assert sorted(claimed) == sorted({c.id for c in CLAIMS} - more)
    assert all(v.against in names for v in all_of_them)
    assert pytest.approx(1 - 0.05 / len(CLAIMS)) == SIMULTANEOUS


def test_a_run_judges_every_claim(tmp_path, monkeypatch, capsys):
    """Golden run: every file, every verdict, and the same numbers once more from what is stored."""
    narrow = replace(TOY, scale=replace(TOY.scale, width=16))
    toy = Size(
        screen=TOY,
        headline=TOY,
        num_short_seeds=2,
        fractions=(0.5,),
        others=(TOY,),
        defects=(narrow,),
        ablations=True,
    )
    monkeypatch.setitem(architecture.SIZES, "quick", toy)
    monkeypatch.setenv("LERAY_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "texts").mkdir()
    for i in range(30):
        (tmp_path / "texts" / f"{i}.txt").write_text(f"text {i} has lines, as {7 * i}.\n" * 4)
    command = ["study", "architecture", "--text", "texts", "--workers", "1"]
    assert main([*command, "--out", "run", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [v["claim"] for v in told["verdicts"]] == [c.id for c in CLAIMS]
    assert {v["claim_hash"] for v in told["verdicts"]} == {c.hash for c in CLAIMS}
    general = next(v for v in told["verdicts"] if v["claim"] == "G1")
    (gap,) = (
        d for d in told["differences"] if d["name"] == f"default against {told['best_rival']}"
    )
    assert general["estimate"] == gap["estimate"]
    page = (tmp_path / "run" / "report.html").read_text()
    assert "Does sheaf structure" in page
    assert page.count("<svg") == 5
    details = json.loads((tmp_path / "run" / "details.json").read_text())
    looks = details["looks"]
    assert list(looks) == ["baseline", "levels", "routing", "default"]
    assert len(looks["default"]["shares"]) == len(looks["default"]["layers"])
    assert len(looks["routing"]["load"]) == len(looks["routing"]["layers"])
    assert (
        draw({**told, "table": told["headline"]}, details)["curves"].alt.count(";")
        == len(told["seconds_a_step"]) - 1
    )
    methods = [h["method"] for h in told["headline"]]
    assert methods[: len(told["seconds_a_step"])] == list(told["seconds_a_step"])
    assert [m for m in methods if m.startswith("without ")] == [
        v.name for v in variants(16, 4, 16, 2) if v.role == "ablation"
    ]
    for name in ("samples.parquet", "verdicts.json", "MANIFEST.sha256", "figures/curves.svg"):
        assert (tmp_path / "run" / name).exists()
    assert main(["study", "architecture", "--resume", "run", "--workers", "1", "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert again["differences"] == told["differences"]
    assert main(["study", "architecture", "--resume", "run", "--preset", "full"]) == 1
    assert "--preset beside --resume" in capsys.readouterr().err


def test_the_texts_that_were_seen_are_known_by_their_digests(shared_data, tmp_path):
    """On the real files; skipped where they are absent."""
    found = {
        token_files(read_texts(str(shared_data / "text" / name)), "bytes", tmp_path).digest
        for name in ("wikitext2.*.txt", "tinyshakespeare.txt")
    }
    assert found == SEEN
