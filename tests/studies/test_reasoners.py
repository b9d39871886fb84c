"""Who is able among small reasoners."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from leray.runs.folder import RunFolder
from leray.studies import reasoners
from leray.studies.reasoners import FIRST_SEED, SMALL, able_reasoners


def test_in_the_place_of_those_that_cannot_do_it_others_are_trained(monkeypatch, tmp_path):
    """The second and the fourth cannot. Where rounds run out they come behind the others."""
    asked = []

    class Trained:
        def __init__(self, _, seeds, *rest):
            asked.append((rest[-1], list(seeds)))
            self.seeds = seeds

        def weights(self, *_):
            return {seed: {"seed": np.array(seed)} for seed in self.seeds}

        def score(self, weights):
            return 0.98 if int(weights["seed"]) in (FIRST_SEED + 1, FIRST_SEED + 3) else 0.99

    monkeypatch.setattr(reasoners, "Reasoners", Trained)
    with RunFolder.create(tmp_path / "run", "circuits", {}) as folder:
        given, scores = able_reasoners(SMALL, 3, folder, 1)
        a, b, c, d, e = range(FIRST_SEED, FIRST_SEED + 5)
        assert asked == [("reasoners", [a, b, c]), ("reasoners 2", [d]), ("reasoners 3", [e])]
        assert [int(w["seed"]) for w in given.values()] == list(given) == [a, c, e]
        assert scores == {a: 0.99, b: 0.98, c: 0.99, d: 0.98, e: 0.99}
        given, scores = able_reasoners(replace(SMALL, num_rounds=1), 3, folder, 1)
        assert list(given) == [a, c, b]
        assert len(able_reasoners(SMALL, 1, folder, 1)[1]) == 1
