"""How studies begin and go on: what is refused, in one line each."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from leray.errors import LerayError
from leray.runs.folder import RunFolder
from leray.studies.opening import num_processes, reopened, settings, size_of_preset


@dataclass(frozen=True, kw_only=True)
class Asked:
    preset: str = "quick"
    seed: int = 0


def test_a_request_comes_back_as_it_was_written(tmp_path):
    asked = Asked(preset="full", seed=7)
    RunFolder.create(tmp_path / "run", "circuits", settings(asked))
    folder, found = reopened("circuits", Asked(), tmp_path / "run")
    assert found == asked
    assert folder.path == tmp_path / "run"


def test_runs_that_are_another_study_or_damaged(tmp_path):
    RunFolder.create(tmp_path / "run", "circuits", {"preset": "full"})
    with pytest.raises(LerayError, match="holds a run of 'circuits', not 'protection'"):
        reopened("protection", Asked(), tmp_path / "run")
    with pytest.raises(LerayError, match="seed must be int; start a new run"):
        reopened("circuits", Asked(), tmp_path / "run")
    with pytest.raises(LerayError, match="is no run folder"):
        reopened("circuits", Asked(), tmp_path)


def test_workers_and_presets_that_there_are_not():
    with pytest.raises(LerayError, match="0 workers cannot do anything"):
        num_processes(0)
    assert num_processes(3) == 3
    assert num_processes(None) >= 1
    with pytest.raises(LerayError, match=r"preset must be one of quick, full; got 'quik'.*quick"):
        size_of_preset({"quick": 1, "full": 2}, "quik")
