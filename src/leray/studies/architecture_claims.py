"""The ledger of the architecture study: every claim, as it was fixed before a run was judged by it.

Screens of one seed on the tuning splits of two texts chose what is compared (docs/log.md); on these
texts the claims replicate, on others they are confirmed.

Every claim compares two models of equal size on text that neither saw, each with its own learning
rate from an equal search. All share one error: each is judged at `SIMULTANEOUS` (Bonferroni).
"""

from __future__ import annotations

from leray.evidence.verdict import Claim

SOURCE = "the structure document: transformers shaped by levels, sheaves and exact sequences"
LEVEL = 0.95
MARGIN = 0.01
"""Nats a token: half of what the choice of a learning rate is worth."""

OWN = "this study: an ingredient by itself"
_INGREDIENTS = (
    (
        "Cochains of degree 1 and 2 beside the embedding help",
        "tables of pairs and triples of tokens minus the baseline",
    ),
    ("Reading out every level helps", "levels with a loss each minus levels"),
    ("Lower levels should learn faster", "rates that fall with the level minus equal rates"),
    ("Higher levels should learn faster", "rates that rise with the level minus equal rates"),
    (
        "Attention between levels helps",
        "two levels of two layers, the upper one with keys and values of the lower, minus its own",
    ),
    ("The coboundary before attention helps", "token shift minus the baseline"),
    ("The cup gate helps", "a gate that sees the coboundary minus the baseline"),
    ("The constant sheaf's disagreement helps", "A v − v with tied maps minus the baseline"),
    ("Disagreement helps", "A v − v minus the baseline"),
    ("Flat transport of values helps", "values turned by position minus the baseline"),
    (
        "Inverting the coboundary helps: local layers that carry a section along the text",
        "gated recurrences and global layers in turn minus windows and global layers in turn",
    ),
    (
        "Attention through a line bundle that contracts helps",
        "factors read off the tokens between minus the baseline",
    ),
    ("A gate on what attention brings helps", "silu of a map of its input minus the baseline"),
    *(
        (f"In the default {part}", f"the default minus the same {without}")
        for part, without in (
            ("the recurrences help", "with short windows in their places"),
            ("the forgetting of attention helps", "without"),
            ("the coboundary before attention helps", "without"),
            ("the coboundary in the gate helps", "with a gate that does not see it"),
            ("the gate on what attention brings helps", "without"),
        )
    ),
)


def _claim(
    name: str, statement: str, compared: str, margin: float = MARGIN, source: str = SOURCE
) -> Claim:
    return Claim(
        id=name,
        statement=statement,
        source=source,
        estimand=f"mean loss on the report split, nats a token: {compared}; equal parameters, "
        "equal steps, each with its own tuned learning rate",
        direction="less",
        null=0.0,
        margin=margin,
        level=LEVEL,
    )


CLAIMS = (
    _claim(
        "S1",
        "Levels whose windows grow with depth beat uniform attention",
        "windows that grow with depth minus all-global attention",
    ),
    _claim(
        "S2",
        "Local-first training reaches a lower loss with the same steps",
        "windows that open during training minus the same model with its windows open from the "
        "start",
    ),
    _claim(
        "S3",
        "Exact transitions between levels help",
        "transitions with d d = 0 by construction minus plain ones",
    ),
    _claim(
        "S4",
        "An exactness loss on the transitions between levels helps",
        "plain transitions with the exactness loss minus the same without",
    ),
    _claim(
        "S5",
        "Structured initialisation helps early training",
        "orthonormal frames at the start minus normal weights, at the short length of the study",
    ),
    _claim(
        "S6",
        "Lower levels must settle before higher ones learn",
        "levels that open one after the other minus all open from the start",
    ),
    Claim(
        id="S7",
        statement="A gain at one level comes with gains at its neighbours beyond chance",
        source=SOURCE,
        estimand="correlation over intervals of training, mean of neighbouring levels, of the fall "
        "of each level's readout loss on the tuning split, less what all seeds fall; 0 is the mean "
        "over all orders of the intervals",
        direction="greater",
        null=0.0,
        margin=0.1,
        level=LEVEL,
    ),
    Claim(
        id="S8",
        statement="Skip connections and normalisation keep sequences exact",
        source=SOURCE,
        estimand="n ‖d d‖² / (‖d‖² ‖d‖²) of successive transitions after training, 1 by chance: "
        "those with a skip connection and a norm minus those in the stream's place",
        direction="less",
        null=0.0,
        margin=0.05,
        level=LEVEL,
    ),
    Claim(
        id="S9",
        statement="Larger models have smaller exactness defects",
        source=SOURCE,
        estimand="slope per doubling of the width of n ‖d d‖² / (‖d‖² ‖d‖²) of plain transitions "
        "after training, 1 by chance",
        direction="less",
        null=0.0,
        margin=0.05,
        level=LEVEL,
    ),
    _claim(
        "S10",
        "Coboundary features and cup products help beyond short convolutions",
        "interleaved windows with coboundary and cup gate minus interleaved windows with "
        "convolutions and a gate without coboundary",
    ),
    _claim(
        "S11",
        "Attention with transport by the data, a representation of words, helps",
        "interleaved windows, convolutions and transport by the data on half of every head minus "
        "the same with rotary positions alone",
    ),
    _claim(
        "S12",
        "Gluing helps",
        "overlapping patches of 2w glued by least squares, interleaved with global layers, minus "
        "sliding windows of 2w in their place",
    ),
    _claim(
        "S13",
        "A memory of past sections helps",
        "short windows in every layer with a memory of sections minus interleaved windows",
    ),
    _claim(
        "S14",
        "Routing between levels helps",
        "windows with a learned gate to all before minus interleaved windows",
    ),
    _claim(
        "S15",
        "Structure transfers level by level",
        "new runs that begin with the embedding and the two lowest levels of trained ones minus "
        "the same with these two levels exchanged",
    ),
    _claim(
        "G1",
        "A sheaf-structured GPT out-performs a standard transformer of the same size, the best "
        "rival included",
        "the default structured model (sections from their coboundary in two layers of three, in "
        "the third gated attention that forgets; coboundary and cup gate in all; half as many "
        "layers more) minus the best of baseline, interleaved windows, and interleaved windows "
        "with convolutions, plain, gated, or gated in as many layers: the one with the least loss "
        "on the tuning split",
        margin=0.03,
    ),
    *(
        _claim(f"I{i}", statement, compared, source=OWN)
        for i, (statement, compared) in enumerate(_INGREDIENTS, 1)
    ),
)

SIMULTANEOUS = 1 - (1 - LEVEL) / len(CLAIMS)
"""The level of each claim's own interval, so that all hold together at `LEVEL`."""


def claim(name: str) -> Claim:
    """The claim of this id."""
    return next(c for c in CLAIMS if c.id == name)
