"""One run of the importance study, from the words of the request to the files of its folder."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import InitVar, asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from threadpoolctl import threadpool_limits

from leray.data.embeddings import EmbeddingJob
from leray.data.encoders import EncoderFolder, find_encoder
from leray.data.fingerprint import corpus_sha256
from leray.data.preparation import Prepared, ask, prepare
from leray.data.sources import load
from leray.errors import LerayError, check_seed
from leray.evidence.moments import covariances
from leray.evidence.optimum import simplex_optimum
from leray.evidence.verdict import Verdict
from leray.memory.blocks import ALL, FOUR
from leray.memory.conversations import Corpus
from leray.memory.labels import Asked
from leray.memory.methods import FITTED
from leray.memory.weights import Embedder, LinearWeights
from leray.runs import Key, MemoryStore, RunFolder, drive
from leray.runs.computation import Computation, Samples, State
from leray.studies import judgement
from leray.studies.importance import Evidence, decay_times, gather, landscape
from leray.studies.intervals import pearson_weights, table
from leray.studies.outcome import Outcome, plain
from leray.studies.presets import MAX_CONVERSATIONS, MIN_CONVERSATIONS, Preset, preset
from leray.studies.stack.methods import CLAIMED, Stack

Publish = Callable[[RunFolder, dict[str, Any], dict[str, Any]], None]
"""Writes what a person reads into the run's folder, from the result and its details."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """What a run computes: all that its numbers depend on, data files included by content."""

    data: str = "chitchat"
    preset: str = "quick"
    seed: int = 0
    embedder: Path | None = None
    device: str = "cpu"
    include_text: bool = False
    literal: int | None = None
    exhaustive_networks: bool = False

    def __post_init__(self) -> None:
        check_seed(self.seed)

    @property
    def size(self) -> Preset:
        """The preset, with what was asked for besides.

        Raises:
            LerayError: for an unknown preset, or an option that has no effect in this one.
        """
        size = preset(self.preset)
        if self.literal is not None:
            self._needs("montecarlo", "--literal")
            if not MIN_CONVERSATIONS <= self.literal <= MAX_CONVERSATIONS:
                raise LerayError(
                    f"--literal must be {MIN_CONVERSATIONS:,}, the fewest that intervals need, to "
                    f"{MAX_CONVERSATIONS:,}, a day of work; got {self.literal:,}"
                )
            size = replace(size, num_literal=self.literal)
        if self.exhaustive_networks:
            self._needs("networks", "--exhaustive-networks")
            size = replace(size, exhaustive_networks=True)
        return size

    def _needs(self, method: str, option: str) -> None:
        if method not in preset(self.preset).methods:
            raise LerayError(
                f"{option} has no effect with --preset {self.preset}, which runs no {method}: "
                "leave it out, or take --preset full"
            )

    def config(self) -> dict[str, Any]:
        """As it stands in the run's ``config.toml``; nothing unset is written."""
        plain = {k: str(v) if isinstance(v, Path) else v for k, v in asdict(self).items()}
        return {k: v for k, v in plain.items() if v is not None}

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Request:
        """The request that wrote this configuration."""
        known = {k: v for k, v in config.items() if k in cls.__slots__}
        if "embedder" in known:
            known["embedder"] = Path(known["embedder"])
        return cls(**known)


def run_importance(
    request: Request,
    *,
    out: Path | None,
    resume: Path | None,
    workers: int | None,
    publish: Publish,
    scheduler: str | None = None,
) -> tuple[dict[str, Any], Path]:
    """Run the study, or go on with one; returns its result as JSON has it, and its folder.

    Args:
        request: What to compute; where a run is resumed, its own settings hold instead.
        out: A new or empty folder; None for one below ``runs/``.
        resume: The folder of a run to go on with.
        workers: Processes; the numbers do not depend on it. None: 1 for the quick preset, which
            ends before a second one has started, else one a core.
        scheduler: Address of a Dask scheduler whose workers make the steps instead.
        publish: Called with (folder, result, details) to write the report.

    Raises:
        LerayError: for anything the user can mend; what was finished stays in the folder.
        Interrupted: on Ctrl-C, with the command that goes on.
    """
    if workers is not None and workers < 1:
        raise LerayError(f"{workers} workers cannot do anything: ask for 1 or more")
    if resume is not None:
        folder = RunFolder.resume(resume)
        request = Request.of(folder.config)
        size = request.size
        corpus = load(request.data)
    else:
        size = request.size
        # Before a folder is made: a wrong path, model or device leaves nothing behind.
        corpus = load(request.data)
        find_encoder(request.embedder, device=request.device)
        folder = RunFolder.create(out, "importance", request.config())
    if workers is None:
        alone = request.preset == "quick" or scheduler is not None
        workers = 1 if alone else len(os.sched_getaffinity(0))

    def steps(computation: Computation[Any], key: Key) -> Any:
        return folder.drive(computation, key=key, workers=workers, scheduler=scheduler)

    with folder:
        result, details = _run(request, size, corpus, folder, steps)
        publish(folder, result, details)
    return result, folder.path


def _run(
    request: Request,
    size: Preset,
    corpus: Corpus,
    folder: RunFolder,
    steps: Callable[[Computation[Any], Key], Any],
) -> tuple[dict[str, Any], dict[str, Any]]:
    taus = decay_times(corpus.truth)
    asked = ask(corpus)
    encoder = find_encoder(request.embedder, device=request.device)
    started = time.monotonic()
    prepared = prepare(asked, corpus, lambda texts: _embed(texts, encoder, folder), taus)
    preparing = round(time.monotonic() - started, 3)
    key = Key.root(request.seed)
    with threadpool_limits(limits=1):
        evidence = gather(prepared, taus, size, lambda c: steps(c, key))
        stack = Stack(
            prepared=prepared,
            evidence=evidence,
            drive=lambda c: steps(c, key),
            size=size,
            key=key,
        )
        outcomes = stack.run()
    verdicts = judgement.verdicts(
        evidence,
        outcomes,
        judgement.Setting(
            data=corpus.name, seen=corpus.seen, truth=corpus.truth, timed=corpus.timed
        ),
        size.num_sign_flips,
        key.child("sign flips").generator(),
    )
    chosen, advice = judgement.recommendation(evidence)
    result = {
        "study": "importance",
        "run": str(folder.path),
        "preset": request.preset,
        "seed": request.seed,
        "data": _describe(corpus, prepared),
        "table": table(evidence),
        "weights": _weights(evidence, chosen.method),
        "stack": [o.row(request.seed) for o in outcomes],
        "left_out": stack.left_out,
        "methods": _times(preparing, outcomes, folder.seconds),
        "verdicts": [_row(v) for v in verdicts],
        "simulated": [
            _row(v) for v in judgement.simulated_verdicts(outcomes, f"{size.num_gram:,} simulated")
        ],
        "advice": advice,
    }
    folder.write_verdicts(result["verdicts"])
    folder.write("weights.json", _with_provenance(chosen, corpus, folder, encoder).to_json())
    for name, content in (item for o in outcomes for item in o.files.items()):
        folder.write(name, content)
    details = _details(evidence) | {"stack": {o.name: o.details for o in outcomes}}
    if request.include_text:
        details["texts"] = _texts(asked)
    for name, content in (("result", result), ("details", details)):
        folder.write(f"{name}.json", json.dumps(content, indent=1, allow_nan=False) + "\n")
    return result, details


def _times(
    preparing: float, outcomes: Sequence[Outcome], seconds: Mapping[str, float]
) -> list[dict[str, Any]]:
    """Seconds of every method beside what the source claims; a method's computations together."""
    by_method = {o.name: sum(seconds.get(c, 0.0) for c in o.computations) for o in outcomes}
    theirs = {c for o in outcomes for c in o.computations}
    own = {c: s for c, s in seconds.items() if c not in theirs}
    rows = {"embeddings and signals": preparing, **own, **by_method}
    return [{"name": n, "seconds": round(s, 3), "claimed": CLAIMED.get(n)} for n, s in rows.items()]


@dataclass(frozen=True)
class _Embedding:
    """The embedding job as the driver wants it; what it makes is kept in the cache of vectors."""

    job: InitVar[EmbeddingJob]
    num_steps: int
    name: str = "embeddings"
    num_shards: int = 1
    # No field: the job's texts are compared by the cache, key by key, not by the driver.
    _job: ClassVar[EmbeddingJob]

    def __post_init__(self, job: EmbeddingJob) -> None:
        object.__setattr__(self, "_job", job)

    def init(self, shard: int, key: Key) -> State:  # noqa: ARG002
        return {}

    def step(self, state: State, step_index: int, key: Key) -> tuple[State, Samples]:  # noqa: ARG002
        self._job.step(step_index)
        return state, {}

    def result(self, samples: list[list[Samples]]) -> np.ndarray:  # noqa: ARG002
        return self._job.result()


def _embed(texts: Sequence[str], encoder: EncoderFolder, folder: RunFolder) -> np.ndarray:
    job = EmbeddingJob(texts, encoder=encoder)
    try:
        if not job.num_missing:
            return job.result()
        store = MemoryStore(resume_command=folder.resume_command)
        return drive(_Embedding(job, job.num_steps), store=store, key=Key.root(0))
    finally:
        job.close()


def _describe(corpus: Corpus, prepared: Prepared) -> dict[str, Any]:
    """What the data are, and what became of them on the way."""
    one_person = prepared.num_histories < len(corpus.conversations)
    dropped = {**corpus.report.dropped, **prepared.dropped}
    return {
        "name": corpus.name,
        "sha256": corpus_sha256(corpus),
        "description": corpus.description,
        "truth": corpus.truth,
        "seen": corpus.seen,
        "conversations": len(corpus.conversations),
        "histories": prepared.num_histories,
        "clusters": len(prepared.clusters),
        "cluster_unit": "conversations of one person" if one_person else "conversations",
        "turns": prepared.num_turns,
        "queries": prepared.num_queries,
        "pairs": prepared.num_pairs,
        "positives": prepared.num_positives,
        "repaired": dict(corpus.report.repaired),
        "dropped": dropped,
    }


def _weights(evidence: Evidence, recommended: str) -> dict[str, Any]:
    """The exact Pearson weights with intervals, and the weights of every fitted method."""
    total = evidence.moments[evidence.tau].sum(axis=0)
    best = simplex_optimum(covariances(total))
    grid_r = landscape(evidence)
    return {
        "method": "pearson",
        "signals": list(FOUR),
        "tau_seconds": evidence.taus[evidence.tau],
        "r": float(best.r),
        "optimality_residual": float(best.residual),
        "p_value": evidence.null.p_value,
        "p_value_is": f"one-sided, {evidence.group} by conversation, corrected for all weights "
        "searched",
        "values": [
            {"signal": s, **plain(i)} for s, i in zip(FOUR, pearson_weights(evidence), strict=True)
        ],
        "grid": {
            "configurations": len(grid_r),
            "renormalised": int(evidence.renormalised.sum()),
            "best_r": float(grid_r.max()),
            "best": dict(zip(FOUR, map(float, evidence.grid[grid_r.argmax()]), strict=True)),
        },
        "fitted": {
            m: {
                "signals": list(evidence.fitted[m].signals),
                "values": [float(v) for v in evidence.fitted[m].values],
                "tau_seconds": evidence.fitted[m].tau,
            }
            for m in (*FITTED, "relevance")
            if m in evidence.fitted
        },
        "recommended": recommended,
    }


def _with_provenance(
    weights: LinearWeights, corpus: Corpus, folder: RunFolder, encoder: EncoderFolder
) -> LinearWeights:
    """The weights to use, with where they come from."""
    own = corpus.truth == "evidence" and corpus.conversations[0].turns[0].embedding is not None
    name = encoder.path.parent.name if encoder.path.name == "model" else encoder.path.name
    return replace(
        weights,
        embedder=None if own else Embedder(name=name, fingerprint=encoder.fingerprint()),
        provenance={
            "data": corpus.name,
            "truth": corpus.truth,
            "study": "importance",
            "run": folder.path.name,
            "preset": folder.config["preset"],
            "seed": folder.config["seed"],
            "leray": version("leray"),
        },
    )


def _details(evidence: Evidence) -> dict[str, Any]:
    """What only the figures need: landscape, distributions, correlations, null distribution."""
    side = math.isqrt(len(evidence.grid))
    counts, edges = np.histogram(evidence.null.largest_r, 60)
    drawn = evidence.resamples
    taus = [
        {"tau_seconds": t, "r": float(simplex_optimum(covariances(m.sum(axis=0))).r)}
        for t, m in zip(evidence.taus, evidence.moments, strict=True)
    ]
    return {
        "landscape": {
            "signals": list(FOUR),
            "weights": evidence.grid.reshape(side, side, len(FOUR)).tolist(),
            "r": landscape(evidence).reshape(side, side).tolist(),
            "renormalised": evidence.renormalised.reshape(side, side).tolist(),
        },
        "taus": taus,
        "histograms": {
            name: {"edges": e.tolist(), "irrelevant": c[0].tolist(), "relevant": c[1].tolist()}
            for name, (c, e) in evidence.histograms.items()
        },
        "correlation": {"signals": list(ALL), "matrix": evidence.correlation.tolist()},
        "null": {
            "edges": edges.tolist(),
            "counts": counts.tolist(),
            "num_permutations": len(evidence.null.largest_r),
            "observed": evidence.null.observed,
            "group": evidence.group,
        },
        "resampled_weights": {}
        if drawn is None
        else {
            s: np.histogram(drawn.weights[:, k], 50, (0.0, 1.0))[0].tolist()
            for k, s in enumerate(FOUR)
        },
    }


_QUOTED = 20  # examples in a report that includes text


def _texts(asked: Sequence[Asked]) -> list[dict[str, Any]]:
    """The first queries with the turns that matter to them, where the user asked for text."""
    quoted = [
        {
            "conversation": q.cluster,
            "query": q.query.text,
            "relevant": [a.history.turns[i].spoken for i in q.candidates[q.relevant]],
        }
        for a in asked
        for q in a.asks
    ]
    return quoted[:_QUOTED]


def _row(verdict: Verdict) -> dict[str, Any]:
    row = asdict(verdict)
    if verdict.interval is not None:
        ends = [v if math.isfinite(v) else None for v in verdict.interval]
        row["interval"] = None if None in ends else ends
    return row
