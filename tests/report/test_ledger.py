"""The page of verdicts: every run's own, and those on simulated conversations once."""

import json

from leray.cli import main
from leray.report.ledger import Judged, ledger
from leray.studies.architecture_claims import claim as architecture_claim
from leray.studies.claims import claim


def judged(data: str, manifest: str, simulated_estimate: float) -> Judged:
    row = {
        "claim": "M1", "statement": claim("M1").statement, "data": data, "status": "replication",
        "verdict": "refuted", "estimate": 0.1, "interval": [0.0, 0.2], "n": 40, "note": "a|b",
        "level": 0.95, "claim_hash": claim("M1").hash, "method": "exact optimum",
    }  # fmt: skip
    simulated = {**row, "data": "1,000 simulated", "estimate": simulated_estimate, "note": ""}
    result = {
        "data": {"name": data}, "preset": "full", "seed": 0, "verdicts": [row],
        "simulated": [simulated],
    }  # fmt: skip
    return Judged(result=result, date="2026-11-22", manifest=manifest * 8)


def test_what_runs_repeat_of_the_simulation_stands_once() -> None:
    """Identity: equal verdicts on simulated conversations are one row, of the first run."""
    page = ledger([judged("a", "11111111", 0.6), judged("b", "22222222", 0.6)])
    assert page.count("| 1,000 simulated |") == 1
    assert "| a | **refuted**<br>a\\|b | 0.1 | [0, 0.2] | 40 |" in page
    assert "`22222222`" in page
    other = ledger([judged("a", "11111111", 0.6), judged("b", "22222222", 0.7)])
    assert other.count("| 1,000 simulated |") == 2


def test_runs_of_both_studies_stand_in_one_page() -> None:
    g1 = architecture_claim("G1")
    row = {
        "claim": "G1", "statement": g1.statement, "data": "text", "status": "replication",
        "verdict": "supported", "estimate": -0.05, "interval": None, "n": 8, "note": "at width 9",
        "level": 0.99, "method": "paired",
    }  # fmt: skip
    result = {
        "study": "architecture", "data": {"name": "text"}, "preset": "screen", "seed": 0,
        "verdicts": [row],
    }  # fmt: skip
    page = ledger(
        [judged("a", "11111111", 0.6), Judged(result=result, date="2026-11-23", manifest="3" * 64)]
    )
    assert "| text | **supported**<br>at width 9 | -0.05 | – | 8 |" in page
    assert page.index("## M1 ") < page.index("## G1 ") < page.index("## The runs")
    alone = ledger([judged("a", "11111111", 0.6)])
    assert "## G1 " not in alone


def test_a_result_alone_is_judged_as_it_says(tmp_path, capsys):
    """As docs/ keeps them: no date and no manifest; a folder without even a result is refused."""
    (tmp_path / "result.json").write_text(json.dumps(judged("a", "11111111", 0.6).result))
    assert main(["verdicts", str(tmp_path)]) == 0
    page = capsys.readouterr().out
    assert "| – | `–` |" in page
    (tmp_path / "result.json").unlink()
    assert main(["verdicts", str(tmp_path)]) == 1
    assert "for it has no result.json" in capsys.readouterr().err
