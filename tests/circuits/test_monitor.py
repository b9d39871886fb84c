"""The monitor: what broke a capability is undone, and the rest is not."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from leray.circuits.canaries import Canaries, margins
from leray.circuits.faults import KINDS, Fault, Injected, wrong_answers
from leray.circuits.monitor import Monitor, MonitorConfig
from leray.circuits.updates import moments_of
from leray.circuits.zones import Zoned
from leray.errors import LerayError
from leray.lm.optimizer import Muon, OptimizerConfig

OPTIMIZERS = {
    "sgd": lambda m: [torch.optim.SGD(m.parameters(), lr=0.02, momentum=0.9)],
    "adamw": lambda m: [torch.optim.AdamW(m.parameters(), lr=0.003)],
    "muon": lambda m: [
        Muon([{"params": matrices(m, True)}], OptimizerConfig(matrix_rate=0.01)),
        torch.optim.AdamW(matrices(m, False), lr=0.003),
    ],
}


def matrices(model, wanted):
    return [p for p in model.parameters() if (p.ndim == 2) == wanted]


class Towers(nn.Module):
    """Two capabilities, each with weights of its own: which hurts which is known."""

    def __init__(self):
        super().__init__()
        self.a, self.b = (
            nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 3)) for _ in range(2)
        )

    def forward(self, x):
        return torch.where(x[:, :1] > 0, self.a(x[:, 1:]), self.b(x[:, 1:]))


def drawn(name, num, generator):
    """Inputs of a tower, and the largest of three fixed maps as the right answer."""
    maps = torch.randn(8, 3, generator=torch.Generator().manual_seed(ord(name)))
    x = torch.randn(num, 8, generator=generator)
    first = torch.full((num, 1), 1.0 if name == "a" else -1.0)
    return torch.cat([first, x], dim=1), (x @ maps).argmax(dim=1)


def batch(generator):
    a, b = drawn("a", 64, generator), drawn("b", 64, generator)
    return torch.cat([a[0], b[0]]), torch.cat([a[1], b[1]])


@pytest.fixture(scope="module")
def learned():
    """Both capabilities, learned."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    model = Towers()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    for _ in range(800):
        x, y = batch(generator)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    return model


def watched(learned, kind, names="ab", progress=None, **config):
    model = copy.deepcopy(learned)
    generator = torch.Generator().manual_seed(1)
    canaries = {n: Canaries(*drawn(n, 128, generator)) for n in names}
    optimizers = OPTIMIZERS[kind](model)
    monitor = Monitor(
        model,
        optimizers,
        canaries,
        seed=0,
        parts=["a", "b"],
        progress=progress,
        config=MonitorConfig(**config),
    )
    return model, optimizers, monitor


def trained(model, optimizers, monitor, num, fault=None, first=0):
    """Steps of training, one fault in them; returns the alarms."""
    generator = torch.Generator().manual_seed(2)
    injected, alarms = None, []
    for k in range(first, first + num):
        x, y = batch(generator)
        if fault is not None and k == fault.start:
            noise = torch.Generator().manual_seed(3)
            injected = Injected(fault, model, optimizers, moments_of(optimizers), noise)
        if fault is not None and fault.touches(k) and fault.spoils_answers:
            hurt = x[:, 0] > 0 if fault.kind == "poison" else torch.ones(len(x)) > 0
            y = torch.where(hurt, wrong_answers(y, (0, 1, 2)), y)
        monitor.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        if injected is not None:
            injected.before(k)
        alarm = monitor.step()
        if injected is not None:
            injected.after(k)
        if alarm is not None:
            alarms.append(alarm)
    return alarms


FAULT = Fault(kind="corruption", start=21, strength=5.0, target="a")


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_one_corrupted_module_is_found_and_only_it_is_undone(learned, kind):
    """Noise in one tower: the alarm is of its capability, the step and the module are named, the
    capability comes back, and the other tower stays where healthy training took it."""
    twin, optimizers, monitor = watched(learned, kind)
    assert trained(twin, optimizers, monitor, 24) == []
    model, optimizers, monitor = watched(learned, kind)
    (alarm,) = trained(model, optimizers, monitor, 24, FAULT)
    assert alarm.step == 24
    assert alarm.broken == ("a",)
    assert alarm.undone == ((21, 22),)
    assert alarm.steps[alarm.culprits.ranked[0]] == (21, 22)
    assert alarm.culprits.parts.tolist() == [True, False]
    assert monitor.dependencies.edges[0, 0] > 0.3
    assert (monitor.dependencies.edges[:, 1] == 0).all()
    for ours, its in zip(model.b.parameters(), twin.b.parameters(), strict=True):
        assert torch.equal(ours, its)
    others = Canaries(*drawn("a", 512, torch.Generator().manual_seed(9)))
    right = [float((margins(m, others) > 0).double().mean()) for m in (twin, model)]
    assert right[1] > right[0] - 0.03


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_what_else_was_harmed_is_undone_where_its_loss_is_known(learned, kind):
    """Rates four hundred times as large for two steps, and only one tower has canaries: its part of
    these steps is taken back, and the other's too where that tower's loss decides."""
    x, y = drawn("b", 256, torch.Generator().manual_seed(5))

    def other(model):
        return nn.functional.cross_entropy(model(x), y)

    fault = Fault(kind="rate", start=21, length=2, strength=400.0)
    twin, optimizers, monitor = watched(learned, kind, "a")
    assert trained(twin, optimizers, monitor, 24) == []
    losses = []
    for progress in (None, other):
        model, optimizers, monitor = watched(learned, kind, "a", progress)
        (alarm,) = trained(model, optimizers, monitor, 24, fault)
        assert bool((alarm.culprits.after <= alarm.culprits.before + 0.05).all())
        assert {(21, 22), (22, 23)} & set(alarm.undone)
        losses.append(other(model).item())
    assert losses[1] < losses[0] / 2
    assert losses[1] < other(twin).item() + 0.05


def test_behind_an_alarm_what_is_being_learned_is_looked_at_too(learned):
    """One tower with canaries breaks and is restored; then the other does, before the next check:
    no capability falls, and still it is undone where its loss is known."""
    x, y = drawn("b", 256, torch.Generator().manual_seed(5))

    def other(model):
        return nn.functional.cross_entropy(model(x), y)

    second = Fault(kind="corruption", start=25, strength=5.0, target="b")
    for progress in (None, other):
        model, optimizers, monitor = watched(learned, "adamw", "a", progress)
        assert len(trained(model, optimizers, monitor, 24, FAULT)) == 1
        before = other(model).item()
        alarms = trained(model, optimizers, monitor, 4, second, first=24)
        assert [a.broken for a in alarms] == [()] * (progress is not None)
        assert (other(model).item() < before + 0.05) == (progress is not None)
    assert (25, 26) in alarms[0].undone


def test_what_was_learned_of_modules_is_what_was_planted(learned):
    """Noise in one tower, later in the other: each hurts its own capability and no other."""
    model, optimizers, monitor = watched(learned, "adamw", steps_a_group=3, interval=6)
    first = trained(model, optimizers, monitor, 24, FAULT)
    other = Fault(kind="corruption", start=45, strength=5.0, target="b")
    second = trained(model, optimizers, monitor, 24, other, first=24)
    assert [a.undone for a in first + second] == [((21, 24),), ((45, 48),)]
    edges = monitor.dependencies.edges
    assert min(edges[0, 0], edges[1, 1]) > 0.3
    assert max(edges[0, 1], edges[1, 0]) < 0.05


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_fault_changes_what_it_should(learned, kind):
    """Against the twin: weights differ once the fault has begun, and not before."""
    lengths = {"corruption": 1, "moments": 1}
    fault = Fault(kind=kind, start=3, length=lengths.get(kind, 2), strength=5.0, target="a")
    for num, same in ((3, True), (4, False)):
        ours, its = (watched(learned, "adamw") for _ in range(2))
        trained(*ours, num, fault)
        trained(*its, num)
        assert torch.equal(ours[2].flat.read(), its[2].flat.read()) == same
        rates = [[g["lr"] for o in x[1] for g in o.param_groups] for x in (ours, its)]
        assert rates[0] == rates[1]


def test_moments_are_those_of_the_check_before_the_culprits(learned):
    """Adam's moments after the alarm are those of step 20, not what the fault made them."""
    model, optimizers, monitor = watched(learned, "adamw")
    trained(model, optimizers, monitor, 20)
    wanted = moments_of(optimizers)[0]
    model, optimizers, monitor = watched(learned, "adamw")
    (alarm,) = trained(model, optimizers, monitor, 24, FAULT)
    assert alarm.undone == ((21, 22),)
    for ours, its in zip(optimizers[0].state.values(), wanted.values(), strict=True):
        assert torch.equal(ours["exp_avg"], its["exp_avg"])
        assert torch.equal(ours["exp_avg_sq"], its["exp_avg_sq"])


def test_guilty_coordinates_are_slow_for_a_while(learned):
    """Of the corrupted tower only, a tenth of the way first, and free again after some checks."""
    model, optimizers, monitor = watched(learned, "adamw")
    trained(model, optimizers, monitor, 24, FAULT)
    shares = monitor.guarded.shares
    held = shares < 1
    own = monitor.flat.part_of == 0
    assert held[own].any()
    assert not held[~own].any()
    torch.testing.assert_close(shares[held], torch.full_like(shares[held], 0.1))
    before = monitor.flat.read()
    trained(model, optimizers, monitor, 4, first=24)
    torch.testing.assert_close(
        monitor.guarded.shares[held], torch.full_like(shares[held], 1 - 0.9 * 0.8)
    )
    moved = (monitor.flat.read() - before).abs()
    assert moved[held & own].mean() < 0.3 * moved[~held & own].mean()
    trained(model, optimizers, monitor, 100, first=28)
    assert monitor.guarded.kept_back is None


def test_a_fault_that_returns_does_less(learned):
    """Wrong answers for one tower again and again: each time less is lost than without shares."""
    lost = {}
    for share in (1.0, 0.05):
        model, optimizers, monitor = watched(learned, "adamw", share=share, release=0.95)
        trained(model, optimizers, monitor, 4)
        for i in range(2):
            for group in optimizers[0].param_groups:
                group["lr"] = 0.03
            start = 4 + 4 * i
            fault = Fault(kind="poison", start=start, length=4, strength=5.0)
            alarms = trained(model, optimizers, monitor, 4, fault, first=start)
            now = alarms[0].culprits.now[0] if alarms else monitor.history[-1][0]
            lost[share, i] = float(now)
    assert lost[1.0, 0] == lost[0.05, 0]
    assert lost[0.05, 1] < lost[1.0, 1] - 0.1


def test_numbers_that_overflow_are_undone(learned):
    """Weights that are no numbers: all answers count as wrong, and the step is taken back."""
    model, optimizers, monitor = watched(learned, "adamw")
    trained(model, optimizers, monitor, 6)
    with torch.no_grad():
        model.a[0].weight[0, 0] = torch.nan
    (alarm,) = [a for a in [monitor.step(), monitor.step()] if a is not None]
    assert "a" in alarm.broken
    assert monitor.flat.read().isfinite().all()


def test_what_is_left_of_an_interval_is_checked_at_the_end(learned):
    model, optimizers, monitor = watched(learned, "adamw")
    with monitor:
        trained(model, optimizers, monitor, 23, FAULT)
        assert monitor.alarms == []
    assert [a.step for a in monitor.alarms] == [23]


def test_settings_that_cannot_be(learned):
    with pytest.raises(LerayError, match="interval, num_drawn"):
        MonitorConfig(interval=0)
    with pytest.raises(LerayError, match="tolerance must lie in"):
        MonitorConfig(tolerance=1.0)
    canaries = {"a": Canaries(*drawn("b", 64, torch.Generator().manual_seed(0)))}
    wrong = {"a": Canaries(canaries["a"].inputs, (canaries["a"].answers + 1) % 3)}
    model = copy.deepcopy(learned)
    own = [torch.optim.SGD(model.parameters(), lr=0.1)]

    def watch(tests=canaries, optimizers=own, seed=0, progress=None):
        Monitor(model, optimizers, tests, seed=seed, progress=progress)

    with pytest.raises(LerayError, match="fails its canaries at the start"):
        watch(wrong)
    with pytest.raises(LerayError, match="no optimiser"):
        watch(optimizers=[])
    with pytest.raises(LerayError, match="optimiser 0 moves no weight of the model"):
        watch(optimizers=[torch.optim.SGD(learned.parameters(), lr=0.1)])
    with pytest.raises(LerayError, match="LBFGS needs a closure"):
        watch(optimizers=[torch.optim.LBFGS(model.parameters())])
    with pytest.raises(LerayError, match="seed must be 0 to"):
        watch(seed=-1)
    with pytest.raises(LerayError, match=r"one finite number, .* got nan"):
        watch(progress=lambda _: torch.tensor(torch.nan))
    with pytest.raises(LerayError, match=r"got a tensor of shape \[2\]"):
        watch(progress=lambda _: torch.zeros(2))


def test_a_model_that_stands_still_raises_no_alarm_whatever_its_choices(learned):
    """Each capability among its own choices, of which the other's answers may be none."""
    model = copy.deepcopy(learned)
    generator = torch.Generator().manual_seed(1)
    tests = {}
    for name in "ab":
        x, y = drawn(name, 200, generator)
        several = {
            c: Canaries(x[y != c], y[y != c], choices=tuple({0, 1, 2} - {c})) for c in (0, 2)
        }
        tests |= {f"{name}, not {c}": set_ for c, set_ in several.items()}
    still = torch.optim.SGD(model.parameters(), lr=0.0)
    watched = Monitor(model, [still], tests, seed=0)
    for _ in range(24):
        assert watched.step() is None
    assert np.mean(watched.history) < 0.1


def test_zoned_optimisers_and_bfloat16_are_watched(learned):
    """A fault is found and undone all the same."""
    model = copy.deepcopy(learned).bfloat16()
    generator = torch.Generator().manual_seed(1)
    x, y = drawn("a", 128, generator)
    zoned = Zoned(torch.optim.SGD(model.parameters(), lr=0.0), {model.a[0].weight: 0.5})
    watched = Monitor(model, [zoned], {"a": Canaries(x.bfloat16(), y)}, seed=0)
    for _ in range(3):
        assert watched.step() is None
    before = watched.flat.read()
    with torch.no_grad():
        model.a[0].weight.neg_()
    assert watched.step() is not None
    assert torch.equal(watched.flat.read(), before)
