"""Steps captured as graphs, on machines that have a device."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from leray.runs import Key, MemoryStore, drive, no_progress
from leray.studies.variants import configured, variants
from leray.train.text import Document
from leray.train.tokens import Vocabulary, streams_of
from leray.train.training import Training

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

VARIANTS = {v.name: v for v in variants(64, 4, 64, 12)}
TABLES = {
    "model": {"width": 64, "num_layers": 4, "num_heads": 2},
    "data": {"context": 64, "num_sequences": 4},
    "schedule": {"num_steps": 12, "interval": 4},
}


def training(name: str, device: str) -> Training:
    text = "the quick brown fox jumps over the lazy dog. " * 90
    stream, _, _ = streams_of(Vocabulary(), [Document("a", text)])
    config = configured(VARIANTS[name], TABLES, 256)
    starts = np.array([0, 100, 400])
    return Training(
        (config,) * 3,
        (0, 1, 2),
        stream,
        stream[:400],
        starts,
        device=device,
        name=name.replace(" ", "_"),
    )


@pytest.mark.parametrize("name", VARIANTS)
def test_oracle_a_captured_step_is_that_of_the_processor(name):
    """Every variant, three at once: Muon's iteration is in bfloat16 there, so to 1% after 12."""
    there, here = (
        drive(
            training(name, device),
            store=MemoryStore(),
            key=Key.root(0),
            workers=3 if device == "cuda" else 1,
            progress=no_progress,
        )
        for device in ("cuda", "cpu")
    )
    for one, other in zip(there, here, strict=True):
        np.testing.assert_allclose(one.train, other.train, rtol=0.01)
        np.testing.assert_allclose(one.tune, other.tune, rtol=0.01)
        assert other.train[-1] < other.train[0] - 0.5
