"""The models of the architecture study: what each changes in the baseline, at equal size.

A variant is a set of changes to the tables of a training configuration. Its feed-forward networks
are narrowed or widened until its parameters are those of the baseline, to half a percent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from leray.errors import LerayError
from leray.lm.config import ModelConfig
from leray.train.configuration import TrainingConfig, configuration_of
from leray.train.training import size_of

Tables = Mapping[str, Mapping[str, Any]]

CLOSE = 0.005
"""How far, relatively, parameters may be from the baseline's."""


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One model of the study.

    Args:
        name: In tables and files.
        what: In words.
        changes: To the tables of the baseline.
        claim: That it is judged by, with the variant ``against``; none for references. An ablation
            is what its part of the default is compared with.
    """

    name: str
    what: str
    role: Literal["baseline", "rival", "ingredient", "reference", "default", "ablation"] = (
        "ingredient"
    )
    changes: Tables = field(default_factory=dict)
    claim: str | None = None
    against: str = "baseline"


def variants(width: int, num_layers: int, context: int, num_steps: int) -> tuple[Variant, ...]:
    """All of them.

    Windows follow from the context: T/16 and its doubles, and all before. Tables of cochains take
    4 · width² weights each, about a sixth of a model with four layers.
    """
    w = max(2, context // 16)
    levels = {"windows": [*(min(context // 2, w * 2**i) for i in range(num_layers - 1)), 0]}
    half = {"windows": [*[w] * (num_layers // 2), *[0] * (num_layers - num_layers // 2)]}
    woven = {"windows": [w, 0]}
    conv = {**woven, "mixing": "convolution"}
    plain = {**levels, "transitions": "plain"}
    deep = {"num_layers": 3 * num_layers // 2}
    default = {
        **deep,
        "recurrent": [True, True, False],
        "forgetting": True,
        "gated": True,
        "mixing": "coboundary",
        "feedforward": "cup",
    }
    local = {k: v for k, v in default.items() if k != "recurrent"} | {"windows": [w, w, 0]}
    cochains = {"cochains": 2, "cochain_rows": 32 * width, "cochain_dim": max(1, width // 8)}

    def v(name: str, what: str, model: Mapping[str, Any], **more: Any) -> Variant:
        tables = ("loss", "settling", "schedule")
        extra = {k: more.pop(k) for k in tables if k in more}
        return Variant(name=name, what=what, changes={"model": model, **extra}, **more)

    return (
        v("baseline", "all-global attention", {}, role="baseline"),
        v("interleaved", "windows and global layers in turn", woven, role="rival"),
        v("convolution", "interleaved, short convolutions", conv, role="rival"),
        v(
            "gated convolution",
            "interleaved, short convolutions, gated",
            {**conv, "feedforward": "swiglu"},
            role="rival",
        ),
        v(
            "deep convolution",
            "gated convolution in half as many layers more, of less hidden width",
            {**conv, "feedforward": "swiglu", **deep},
            role="rival",
        ),
        v("levels", "windows that grow with depth", levels, claim="S1"),
        v(
            "cochains",
            "cochains of degree 1 and 2 beside the embedding",
            cochains,
            claim="I1",
        ),
        v(
            "local first",
            "windows open during training",
            {},
            settling={"local_first": 0.5},
            claim="S2",
        ),
        v("plain transitions", "levels, a matrix between two", plain, role="reference"),
        v(
            "bare transitions",
            "levels, a matrix between two in the stream's place",
            {**levels, "transitions": "bare"},
            role="reference",
            against="plain transitions",
        ),
        v(
            "exact transitions",
            "levels, transitions with d d = 0",
            {**levels, "transitions": "exact"},
            claim="S3",
            against="plain transitions",
        ),
        v(
            "exactness loss",
            "plain transitions drawn to exactness",
            plain,
            loss={"exactness": 0.1},
            claim="S4",
            against="plain transitions",
        ),
        v(
            "pages",
            "levels, each read out",
            levels,
            loss={"pages": 0.3},
            schedule={"interval": max(1, num_steps // 25)},
            claim="I2",
            against="levels",
        ),
        v("frames", "orthonormal matrices at the start", {"initialisation": "frames"}, claim="S5"),
        v(
            "opening",
            "levels open one by one",
            levels,
            settling={"opening": 0.5},
            claim="S6",
            against="levels",
        ),
        v(
            "lower first",
            "levels, lower ones faster",
            levels,
            settling={"level_rate": 0.7},
            claim="I3",
            against="levels",
        ),
        v(
            "higher first",
            "levels, higher ones faster",
            levels,
            settling={"level_rate": 1.4},
            claim="I4",
            against="levels",
        ),
        v("two levels", "windows, then all before", half, role="reference"),
        v(
            "across levels",
            "keys and values of the level below",
            {**half, "across_levels": True},
            claim="I5",
            against="two levels",
        ),
        v("coboundary", "shift before attention", {"mixing": "coboundary"}, claim="I6"),
        v("cup gate", "gate by the coboundary", {"feedforward": "cup"}, claim="I7"),
        v(
            "cup",
            "interleaved, coboundary and cup gate",
            {**woven, "mixing": "coboundary", "feedforward": "cup"},
            claim="S10",
            against="gated convolution",
        ),
        v("constant sheaf", "A v − v, tied maps", {"values": "tied_disagreement"}, claim="I8"),
        v("disagreement", "A v − v", {"values": "disagreement"}, claim="I9"),
        v("flat transport", "values turned by position", {"values": "rotated"}, claim="I10"),
        v(
            "value residual",
            "values of the first layer mixed in",
            {"values": "residual"},
            role="reference",
        ),
        v(
            "transport",
            "interleaved, convolutions, half of every head transported by the data",
            {**conv, "positions": "both", "stalk": 8},
            claim="S11",
            against="convolution",
        ),
        v(
            "gated convolution, cochains",
            "the strongest rival given the cochains",
            {**conv, "feedforward": "swiglu", **cochains},
            role="reference",
            against="gated convolution",
        ),
        v(
            "wide windows",
            "windows of twice the size",
            {"windows": [2 * w, 0]},
            role="reference",
        ),
        v(
            "patches",
            "overlapping patches, glued",
            {"windows": [2 * w, 0], "gluing": True},
            claim="S12",
            against="wide windows",
        ),
        v("windows", "every layer local", {"windows": [2 * w]}, role="reference"),
        v(
            "sections",
            "every layer local, and sections of the past",
            {"windows": [2 * w], "memory_block": w},
            claim="S13",
            against="interleaved",
        ),
        v(
            "routing",
            "a gate between window and all",
            {"windows": [w], "routing": True},
            claim="S14",
            against="interleaved",
        ),
        v(
            "recurrence",
            "sections from their coboundary and attention in turn",
            {"recurrent": [True, False]},
            claim="I11",
            against="interleaved",
        ),
        v(
            "forgetting",
            "attention multiplied by factors between tokens",
            {"forgetting": True},
            claim="I12",
        ),
        v("gated attention", "what attention brings is gated", {"gated": True}, claim="I13"),
        v(
            "default",
            "twice two sections from their coboundary and gated attention that forgets; "
            "coboundary, cup gate",
            default,
            role="default",
            claim="G1",
        ),
        *(
            v(f"without {part}", what, model, role="ablation", against="default", claim=claim)
            for part, what, model, claim in (
                ("recurrence", "short windows in its place", local, "I14"),
                ("forgetting", "attention to all before", {**default, "forgetting": False}, "I15"),
                ("coboundary", "no shift before attention", {**default, "mixing": "none"}, "I16"),
                (
                    "cup",
                    "a gate that sees no coboundary",
                    {**default, "feedforward": "swiglu"},
                    "I17",
                ),
                ("gate", "attention without a gate", {**default, "gated": False}, "I18"),
            )
        ),
    )


def configured(variant: Variant, base: Tables, num_tokens: int) -> TrainingConfig:
    """The variant's configuration, as large as the baseline's.

    Raises:
        LerayError: Equal size cannot be reached, or the tables do not fit each other.
    """
    names = {*base, *variant.changes}
    tables = {t: {**base.get(t, {}), **variant.changes.get(t, {})} for t in names}
    config = configuration_of(tables, num_tokens, f"variant {variant.name!r}")
    target = size_of(configuration_of(base, num_tokens, "baseline").model)
    return replace(config, model=of_size(config.model, target))


def of_size(config: ModelConfig, target: int) -> ModelConfig:
    """The model with the hidden width that brings it next to ``target`` parameters.

    Raises:
        LerayError: That is further away than half a percent.
    """
    hidden, size = config.hidden_width, size_of(config)
    per = size_of(replace(config, hidden=hidden + 1)) - size
    found = replace(config, hidden=max(1, hidden + round((target - size) / per)))
    away = abs(size_of(found) / target - 1)
    if away > CLOSE:
        raise LerayError(
            f"{size_of(found):,} parameters are {away:.1%} from the {target:,} that are compared: "
            "change the width"
        )
    return found
