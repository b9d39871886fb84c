"""The heavy methods beside the same work written naively and beside a library, in one run.

    python benchmarks/stack.py [--only ROW ...] [--quick] [--out docs/benchmarks/stack.txt]

Three ways to do each row's work: *ours*; *naive*, the method as it reads on paper, in Python loops;
and the *library* that a user would pick. Seconds are processor seconds of one thread, user and
system, children included; importing and compiling are in columns of their own ("once"). What would
take hours is measured on the part that is stated and multiplied. Every row runs in a process of its
own, the three ways one after another, pinned to one processor. Ours must be at least 5 times faster
than each, except where the library is what we call; exit code 3 where a row is not. A ``--quick``
run makes tiny versions, to see that everything works, and judges nothing.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path

os.environ.update(
    OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1", NUMBA_NUM_THREADS="1"
)
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"

from stack_costs import LEAST, Cost, Row

ROWS = {
    "montecarlo": ("stack_simulation", "monte_carlo"),
    "bootstrap": ("stack_resampling", "bootstrap"),
    "permutation": ("stack_resampling", "permutation"),
    "nuts": ("stack_posterior", "nuts"),
    "vi": ("stack_posterior", "variational"),
    "networks": ("stack_searches", "networks"),
    "genetic": ("stack_searches", "genetic"),
    "tensors": ("stack_searches", "tensors"),
}
PACKAGES = (
    "numpy", "scipy", "numba", "jax", "numpyro", "pymc", "nutpie", "pymoo", "tensorly", "torch",
)  # fmt: skip
CRITERION_NOT_MET = 3


def main() -> int:
    """Print the table; 3 where a row misses its factor."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=ROWS, default=list(ROWS), metavar="ROW")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, nothing judged")
    parser.add_argument("--out", type=Path, help="also write the output here")
    options = parser.parse_args()
    lines: list[str] = []

    def say(line: str) -> None:
        print(line, flush=True)
        lines.append(line)

    for line in machine(options.quick):
        say(line)
    started = time.perf_counter()
    rows: list[Row] = []
    for name in options.only:
        with get_context("spawn").Pool(1) as alone:
            found, busy = alone.apply(measured, (name, options.quick))
        rows += found
        for row in found:
            say(table_line(row, judging=not options.quick))
        print(f"    {name}: {busy:.0f} processor seconds in all", file=sys.stderr)
    for line in [*footnotes(rows), *verdict(rows, options.quick)]:
        say(line)
    print(f"{time.perf_counter() - started:.0f} s by the clock", file=sys.stderr)
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    missed = any(row.missed for row in rows) and not options.quick
    return CRITERION_NOT_MET if missed else 0


def measured(name: str, quick: bool) -> tuple[list[Row], float]:
    """The rows of a name, and what measuring them took; runs in a process of its own."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    module, function = ROWS[name]
    work: Callable[[bool], list[Row]] = getattr(import_module(module), function)
    return work(quick), time.process_time() + sum(os.times()[2:4])


def machine(quick: bool) -> list[str]:
    """What ran this, how busy it was, and the head of the table."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    tiny = " --quick (tiny sizes: no figure here means anything)" if quick else ""
    return [
        f"python benchmarks/stack.py{tiny}",
        f"{processor()}, {os.cpu_count()} processors, one thread used; {load:.1f} programs were "
        f"running; Python {platform.python_version()}, "
        + ", ".join(f"{name} {version(name)}" for name in PACKAGES),
        "processor seconds; ratio = theirs / ours; once = importing and compiling, not in the "
        "seconds (numba's code comes from its cache on the disk, JAX and PyMC compile anew); "
        "* the library is what we call, not judged",
        "",
        f"{'row':<24}{'ours':>10}{'naive':>12}{'ratio':>12}{'library':>12}{'ratio':>12}"
        f"{'once: ours':>12}{'library':>9}  library",
    ]


def processor() -> str:
    """The processor's name, where the system tells it."""
    info = Path("/proc/cpuinfo")
    names = [
        line.split(":")[1].strip()
        for line in (info.read_text(encoding="utf-8").splitlines() if info.exists() else ())
        if line.startswith("model name")
    ]
    return names[0] if names else platform.processor() or platform.machine()


def table_line(row: Row, *, judging: bool) -> str:
    """One line of the table."""
    missed = "  MISSED" if judging and row.missed else ""
    name = row.name if row.judged else f"{row.name} *"
    return (
        f"{name:<24}{shown(row.ours.seconds):>10}"
        f"{shown(row.naive.seconds):>12}{shown(row.naive_ratio):>12}"
        f"{shown(row.library.seconds):>12}{shown(row.library_ratio):>12}"
        f"{shown(row.ours.once):>12}{shown(row.library.once):>9}  {row.peer}{missed}"
    )


def shown(value: float) -> str:
    """Three digits that count; a dash for nothing."""
    if value == 0:
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def footnotes(rows: list[Row]) -> list[str]:
    """What was measured of each row, and what was checked."""
    lines = ["", "What was measured"]
    for row in rows:
        with_once = (row.library.seconds + row.library.once) / (row.ours.seconds + row.ours.once)
        lines += [f"  {row.name}: {row.work}"]
        ways: list[tuple[str, Cost]] = [
            ("ours", row.ours), ("naive", row.naive), (row.peer, row.library),
        ]  # fmt: skip
        lines += [f"    {way}: {cost.part}" for way, cost in ways]
        lines += [f"    {note}" for note in row.notes]
        lines += [f"    importing and compiling counted: {shown(with_once)} times {row.peer}"]
    return lines


def verdict(rows: list[Row], quick: bool) -> list[str]:
    """How many rows are fast enough."""
    judged = [row for row in rows if row.judged]
    if quick or not judged:
        return ["", "nothing judged"]
    missed = [row.name for row in judged if row.missed]
    return [
        "",
        f"{len(judged) - len(missed)} of {len(judged)} rows are at least {LEAST:g} times faster "
        f"than both peers" + (f"; missed: {', '.join(missed)}" if missed else ""),
    ]


if __name__ == "__main__":
    sys.exit(main())
