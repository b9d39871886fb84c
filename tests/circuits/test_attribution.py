"""Attributions against what they approximate."""

from __future__ import annotations

import pytest
import torch

from leray.circuits.ablation import Task, ablated, divergence, replacement
from leray.circuits.attribution import eap, eap_ig
from leray.circuits.graph import OUTPUT
from leray.circuits.patching import CleanRun, clean_run
from leray.data.planted import load_program, task_of
from leray.errors import LerayError


def run_of(name: str) -> tuple[CleanRun, Task]:
    program = load_program(name)
    task = task_of(program, 8)
    with torch.no_grad():
        return clean_run(program.model, task), task


def test_a_gradient_is_the_slope_of_a_small_step() -> None:
    """Oracle: central differences of the whole model, edge by edge, one input at a time."""
    run, task = run_of("pair-balance")
    zero = torch.zeros_like(run.written)
    found = eap(run, task, zero)
    with torch.no_grad():
        gap = run.outputs_of_all()
        weights = task.counted / task.counted.sum(dim=1, keepdim=True)
        slopes = []
        for step in (1e-6, -1e-6):
            nearly = (1 - step) * run.written
            masks = torch.eye(len(found), dtype=torch.bool)
            outputs = ablated(run.model, run.graph, task.clean, nearly, masks)
            slopes.append(((outputs * gap).sum(dim=-1) * weights).sum(dim=-1) / 2e-6)
    torch.testing.assert_close(found, (slopes[0] - slopes[1]).abs().mean(dim=1), atol=1e-6, rtol=0)


def test_integrated_gradients_of_the_output_add_up_to_the_divergence() -> None:
    """Oracle: of a program whose output reads one head that is linear in the values."""
    run, task = run_of("first")
    with torch.no_grad():
        replaced = replacement(run.model, task, "resample", run.written)
        outputs = run.model(task.corrupted)
        whole = divergence(outputs, run.outputs_of_all(), task)
    scores = eap_ig(run, task, replaced, 4)
    last = [score for score, e in zip(scores, run.graph.edges, strict=True) if e.target == OUTPUT]
    torch.testing.assert_close(torch.stack(last).sum(), whole.mean(), atol=1e-6, rtol=0)


def test_no_steps() -> None:
    """Identity: one clear line."""
    run, task = run_of("first")
    with pytest.raises(LerayError, match="at least 1; got 0"):
        eap_ig(run, task, run.written, 0)
