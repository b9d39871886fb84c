"""The ledger of the importance study: every claim, as it was fixed before data were judged by it.

Nine claims share one error: each is judged at `SIMULTANEOUS`, 1 − .05/9 (Bonferroni), whichever of
them a preset can speak to.
"""

from __future__ import annotations

from leray.evidence.verdict import Claim

SOURCE = "the importance document: weights (.10, .60, .20, .10) called optimal"
LEVEL = 0.95
CLAIMS = (
    Claim(
        id="M1",
        statement="The best weights put about 0.60 on surprise",
        source=SOURCE,
        estimand="weight of surprise in the four-signal weights with the largest Pearson r",
        direction="within",
        null=0.60,
        margin=0.10,
        level=LEVEL,
    ),
    Claim(
        id="M2",
        statement="Decay deserves a weight of about 0.10",
        source=SOURCE,
        estimand="weight of decay in the four-signal weights with the largest Pearson r, its time "
        "constant chosen with them",
        direction="within",
        null=0.10,
        margin=0.05,
        level=LEVEL,
    ),
    Claim(
        id="M3",
        statement="Surprise alone beats the four signals together",
        source=SOURCE,
        estimand="mean nDCG@10 of surprise alone minus that of the four signals with weights "
        "chosen by nDCG@10 on the other conversations",
        direction="greater",
        null=0.0,
        margin=0.01,
        level=LEVEL,
    ),
    Claim(
        id="M4",
        statement="Linear is near-optimal",
        source=SOURCE,
        estimand="mean nDCG@10 on conversations left out, of the best network over the four "
        "signals (chosen and trained on the other conversations) minus that of the linear optimum "
        "of the same loss on the same rows; the larger of the two losses' differences",
        direction="less",
        null=0.01,
        margin=0.0,
        level=LEVEL,
    ),
    Claim(
        id="M5",
        statement="Evolution finds nothing that a grid misses; the landscape is smooth",
        source=SOURCE,
        estimand="(r of the best weights that evolution found − r of the best of the 169 "
        "configurations) / r of the exact optimum, on all conversations",
        direction="less",
        null=0.05,
        margin=0.0,
        level=LEVEL,
    ),
    Claim(
        id="M6",
        statement="Variational inference agrees with MCMC",
        source=SOURCE,
        estimand="largest, over the four weights, 1-Wasserstein distance between the full-rank "
        "variational posterior and NUTS, in posterior standard deviations of NUTS",
        direction="less",
        null=0.2,
        margin=0.0,
        level=LEVEL,
    ),
    Claim(
        id="M7",
        statement="A million conversations fix effects to three decimals",
        source=SOURCE,
        estimand="largest half-width, over the 169 configurations, of the 95% interval for the "
        "mean over conversations of r, in a simulated million",
        direction="less",
        null=0.0005,
        margin=0.0,
        level=LEVEL,
    ),
    Claim(
        id="M8",
        statement="The signals have low-rank latent structure",
        source=SOURCE,
        estimand="share of the variance of the tensor of conversations left out that rank-3 "
        "PARAFAC factors of the other modes, fitted on the other conversations, explain "
        "(conversation loadings refitted by least squares)",
        direction="greater",
        null=0.5,
        margin=0.0,
        level=LEVEL,
    ),
    Claim(
        id="M9",
        statement="Fitted weights retrieve better than relevance alone, and carry over to "
        "conversations never seen",
        source="this project",
        estimand="mean nDCG@10 on conversations left out of the fit, minus that of relevance "
        "alone: the best of the fitted methods, simultaneously over all of them",
        direction="greater",
        null=0.0,
        margin=0.01,
        level=LEVEL,
    ),
)

SIMULTANEOUS = 1 - (1 - LEVEL) / len(CLAIMS)
"""The level of each claim's own interval, so that all hold together at `LEVEL`."""

FIXED_AFTER: dict[str, tuple[str, ...]] = dict.fromkeys(
    ("M4", "M5", "M6", "M7", "M8"), ("chitchat", "locomo")
)
"""Claims fixed when other verdicts on these data were already known: there they replicate."""


def claim(name: str) -> Claim:
    """The claim of this id."""
    return next(c for c in CLAIMS if c.id == name)
