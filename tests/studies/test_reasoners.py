"""Who is able among small reasoners."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from leray.runs.folder import RunFolder
from leray.studies import reasoners
from leray.studies.reasoners import SMALL, able_reasoners


def test_in_the_place_of_those_that_cannot_do_it_others_are_trained(monkeypatch, tmp_path):
    """Seeds 21 and 23 cannot. Where rounds run out they are among the others, the last."""
    asked = []

    class Trained:
        def __init__(self, _, seeds, *rest):
            asked.append((rest[-1], list(seeds)))
            self.seeds = seeds

        def weights(self, *_):
            return {seed: {"seed": np.array(seed)} for seed in self.seeds}

        def score(self, weights):
            return 0.98 if int(weights["seed"]) in (21, 23) else 0.99

    monkeypatch.setattr(reasoners, "Reasoners", Trained)
    with RunFolder.create(tmp_path / "run", "circuits", {}) as folder:
        given, scores = able_reasoners(SMALL, 3, folder, 1)
        assert asked == [("reasoners", [20, 21, 22]), ("reasoners 2", [23]), ("reasoners 3", [24])]
        assert [int(w["seed"]) for w in given.values()] == list(given) == [20, 22, 24]
        assert scores == {20: 0.99, 21: 0.98, 22: 0.99, 23: 0.98, 24: 0.99}
        given, scores = able_reasoners(replace(SMALL, num_rounds=1), 3, folder, 1)
        assert list(given) == [20, 22, 21]
        assert len(able_reasoners(SMALL, 1, folder, 1)[1]) == 1
