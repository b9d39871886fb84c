"""A run of the architecture study: its folder, its computations, its verdicts."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from leray.data.cache import cache_home
from leray.evidence.verdict import Verdict, judge
from leray.runs.executors import kept_workers
from leray.runs.folder import RunFolder
from leray.runs.seeds import Key
from leray.studies.architecture import (
    SIZES,
    Part,
    Protocol,
    Scale,
    Size,
    Trained,
    all_variants,
)
from leray.studies.architecture_claims import CLAIMS, SIMULTANEOUS
from leray.studies.architecture_differences import (
    Difference,
    composition_by_width,
    compute_share,
    difference,
    last_composition,
    leakage,
    over_seeds,
)
from leray.studies.architecture_rows import (
    budgets,
    curve_means,
    gap_row,
    interval_row,
    model_row,
    verdict_row,
)
from leray.studies.opening import num_processes, reopened, settings, size_of_preset
from leray.train.text import read_texts
from leray.train.tokens import TokenFiles, token_files
from leray.train.training import check_device

Publish = Callable[[RunFolder, dict[str, Any], dict[str, Any]], None]

MOVES = {
    "other seeds": (),
    "two levels in their places": (0, 1),
    "two levels exchanged": (1, 0),
}
"""Which trained layers the first ones of new runs begin as."""
SEEN = frozenset({"90cfa253d87f01e040fa4927", "32de58c23ba4315e683488c1"})
"""WikiText-2's validation and test files and Tiny Shakespeare, by their digests as bytes: they
chose what the study compares (docs/log.md), and there its claims replicate."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ArchitectureRequest:
    """What a run computes."""

    text: str = "stdlib"
    preset: str = "quick"
    seed: int = 0
    device: str = "cpu"


def run_architecture(
    request: ArchitectureRequest,
    *,
    out: Path | None,
    resume: Path | None,
    workers: int | None,
    publish: Publish,
    device: str | None = None,
) -> tuple[dict[str, Any], Path]:
    """Run the study, or go on with one; returns its result as JSON has it, and its folder.

    Args:
        device: Where a run goes on; None for where it began.

    Raises:
        LerayError: For what a user can mend; what was finished stays in the folder.
        Interrupted: On Ctrl-C, with the command that goes on.
    """
    processes, folder = num_processes(workers), None
    if resume is not None:
        folder, request = reopened("architecture", request, resume)
        request = request if device is None else replace(request, device=device)
    size = size_of_preset(SIZES, request.preset)
    check_device(request.device, "float32")
    texts = read_texts(request.text)
    files = token_files(texts, "bytes", cache_home() / "tokens")
    if folder is None:
        folder = RunFolder.create(out, "architecture", settings(request))
    with folder, kept_workers():
        result, details = _run(request, size, files, folder, processes)
        publish(folder, result, details)
    return result, folder.path


def _run(
    request: ArchitectureRequest, size: Size, files: TokenFiles, folder: RunFolder, workers: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    key = Key.root(request.seed)

    def protocol(part: Part, label: str) -> Protocol:
        return Protocol(
            files=files,
            part=part,
            drive=lambda c: folder.drive(c, key=key, workers=workers),
            final=lambda c, shard: folder.state_of(c, key=key, shard=shard),
            label=label,
            report_windows=size.report_windows,
            device=request.device,
        )

    draw = key.child("resamples").generator()
    screen = None if size.screen is None else protocol(size.screen, "screen")
    main = screen if size.headline is None else protocol(size.headline, "headline")
    assert main is not None, "a size has a screen or a headline"
    headline = _compared(main)
    shorter = {
        name: {f: main.train(t.variant, f, size.num_short_seeds) for f in size.fractions}
        for name, t in headline.items()
    }
    gains = [
        _gains(main.part.scale.shorter(f), {n: shorter[n][f] for n in headline}, draw)
        for f in size.fractions
    ]
    gains.append(_gains(main.part.scale, headline, draw))
    for part in size.others:
        more = protocol(part, f"scale-{part.scale.width}-{part.scale.num_steps}")
        of = {v.name: v for v in all_variants(part.scale)}
        gains.append(_gains(part.scale, {name: more.train(of[name]) for name in headline}, draw))
    ablated = _ablated(main) if size.ablations else {}
    gaps = {name: _gap(headline["default"], t, draw) for name, t in ablated.items()}
    trained = headline
    if screen is not None:
        known = headline if screen is main else {}
        every = (v for v in all_variants(screen.part.scale) if v.role != "ablation")
        trained = {v.name: known.get(v.name) or screen.train(v) for v in every}
        gaps |= _differences(trained, draw)
        widths = {screen.part.scale.width: trained["plain transitions"]}
        for part in size.defects:
            more = protocol(part, f"defects-{part.scale.width}")
            of = {v.name: v for v in all_variants(part.scale)}
            widths[part.scale.width] = more.train(of["plain transitions"])
        gaps |= _inner(trained, widths)
        levels = trained["levels"]
        moved = {n: screen.moved(levels, n, layers) for n, layers in MOVES.items()}
        scratch, kept, exchanged = moved.values()
        gaps["S15"] = _gap(kept, exchanged, draw)
        gaps["levels moved"] = _gap(kept, scratch, draw)
    gaps |= _against_default(headline, draw)
    default, baseline = headline["default"], headline["baseline"]
    seconds = main.seconds_a_step(list(headline.values()))
    shares = {
        kind: compute_share(default, shorter["default"], baseline, SIMULTANEOUS, cost)
        for kind, cost in (
            ("flops", default.flops / baseline.flops),
            ("seconds", seconds["default"] / seconds["baseline"]),
        )
    }
    source = f"{request.text}, {files.splits['train'].size:,} tokens to train on"
    rival = main.best_rival()
    verdicts = _verdicts(gaps, rival, source, files.digest in SEEN, main, screen)
    result = {
        "study": "architecture",
        "run": str(folder.path),
        "preset": request.preset,
        "seed": request.seed,
        "data": {
            "name": request.text,
            "tokens": {s: int(x.size) for s, x in files.splits.items()},
            "documents": {s: len(x) for s, x in files.sizes.items()},
            "repaired": {},
            "dropped": {},
        },
        "scale": asdict((screen or main).part.scale),
        "headline_scale": asdict(main.part.scale),
        "best_rival": rival,
        "table": [model_row(t) for t in trained.values()],
        "headline": [model_row(t) for t in (headline | ablated).values()],
        "differences": [gap_row(n, gap) for n, gap in gaps.items() if gap.crossed is not None],
        "gains": gains,
        "compute_share": {k: None if x is None else interval_row(x) for k, x in shares.items()},
        "seconds_a_step": seconds,
        "weights": None,
        "methods": [
            {"name": n, "seconds": round(s, 3), "claimed": None} for n, s in folder.seconds.items()
        ],
        "verdicts": [verdict_row(v) for v in verdicts],
    }
    details = {
        "composition": {
            n: [c.composition.tolist() for c in t.curves if c.composition is not None]
            for n, t in trained.items()
        },
        "looks": {n: look for n, look in _looks(screen or main, trained).items() if look},
        "curves": {name: curve_means(t) for name, t in (headline | trained).items()},
        "budgets": budgets(headline, shorter),
    }
    folder.write_verdicts(result["verdicts"])
    for name, content in (("result", result), ("details", details)):
        folder.write(f"{name}.json", json.dumps(content, indent=1, allow_nan=False) + "\n")
    return result, details


def _compared(protocol: Protocol) -> dict[str, Trained]:
    """The baseline, the best rival, which may be the baseline, and the default."""
    names = dict.fromkeys(("baseline", protocol.best_rival(), "default"))
    of = {v.name: v for v in all_variants(protocol.part.scale)}
    return {name: protocol.train(of[name]) for name in names}


def _ablated(protocol: Protocol) -> dict[str, Trained]:
    """The default without each of its parts."""
    every = all_variants(protocol.part.scale)
    return {v.name: protocol.train(v) for v in every if v.role == "ablation"}


def _differences(
    trained: dict[str, Trained], generator: np.random.Generator
) -> dict[str, Difference]:
    """Every variant less the one it is compared with, where that is trained."""
    return {
        name: _gap(t, trained[t.variant.against], generator)
        for name, t in trained.items()
        if t.variant.role not in ("baseline", "default")
    }


def _inner(trained: dict[str, Trained], widths: dict[int, Trained]) -> dict[str, Difference]:
    """What claims say of the inside of models, by claim."""
    plain, bare = (last_composition(trained[f"{kind} transitions"]) for kind in ("plain", "bare"))
    found = {
        "S7": leakage(trained["pages"], SIMULTANEOUS),
        "S8": over_seeds("plain transitions", "bare transitions", plain - bare, SIMULTANEOUS),
    }
    if len(widths) > 1:
        found["S9"] = composition_by_width(widths, SIMULTANEOUS)
    return found


def _against_default(
    trained: dict[str, Trained], generator: np.random.Generator
) -> dict[str, Difference]:
    """The default less every other."""
    default = trained["default"]
    return {
        f"default against {name}": _gap(default, t, generator)
        for name, t in trained.items()
        if t is not default
    }


def _gains(
    scale: Scale, trained: dict[str, Trained], generator: np.random.Generator
) -> dict[str, Any]:
    """What the default is better by than each rival, at one size and one length of training."""
    return {
        "parameters": trained["default"].parameters,
        "tokens": scale.num_tokens,
        "differences": [gap_row(n, g) for n, g in _against_default(trained, generator).items()],
    }


def _gap(one: Trained, other: Trained, generator: np.random.Generator) -> Difference:
    return difference(one, other, SIMULTANEOUS, generator)


def _verdicts(
    gaps: dict[str, Difference],
    rival: str,
    source: str,
    seen: bool,
    main: Protocol,
    screen: Protocol | None,
) -> list[Verdict]:
    """One a claim that was judged; what was searched is corrected for by the level."""
    judged = {"G1": (gaps[f"default against {rival}"], main.part.scale)}
    for v in all_variants(main.part.scale):
        if v.claim is not None and v.name in gaps:
            part = main if v.role == "ablation" or screen is None else screen
            judged[v.claim] = (gaps[v.name], part.part.scale)
    if screen is not None:
        judged |= {c.id: (gaps[c.id], screen.part.scale) for c in CLAIMS if c.id in gaps}
    verdicts = []
    for c in CLAIMS:
        if c.id not in judged:
            continue
        gap, scale = judged[c.id]
        verdicts.append(
            judge(
                c,
                gap.interval,
                data=source,
                seen=seen,
                method=f"{gap.name} less {gap.against}, paired by seed",
                p_value=gap.p_value,
                p_value_is="two-sided sign flips over seeds, of this comparison alone; at least "
                f"{2 / 2 ** len(gap.by_seed):.3g} with {len(gap.by_seed)} seeds",
                note=f"at width {scale.width}, {scale.num_layers} layers, {scale.num_tokens:,} "
                "tokens"
                + (
                    ""
                    if gap.crossed is None
                    else f"; over seeds and documents: [{gap.crossed.low:.4f}, "
                    f"{gap.crossed.high:.4f}]"
                ),
            )
        )
    return verdicts


LOOKED_AT = ("baseline", "levels", "routing", "default")


def _looks(protocol: Protocol, trained: dict[str, Trained]) -> dict[str, dict[str, Any] | None]:
    looks = {n: protocol.look(trained[n]) for n in LOOKED_AT if n in trained}
    return {
        n: None if look is None else asdict(look) | {"shares": look.shares.tolist()}
        for n, look in looks.items()
    }
