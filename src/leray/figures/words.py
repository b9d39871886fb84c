"""Plain English for every id that a result holds: methods, signals, metrics, intervals, files.

Presentation only; the ids and what they compute are defined in ``memory``, ``evidence`` and
``studies``. An id that is not listed here is shown as it stands.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Term:
    """A name for people, one line that says what it is, and where it comes from.

    Args:
        name: A few words, for tables and sentences.
        short: For the axes of figures.
        what: One line.
        source: Who proposed it; empty where it is ours or common knowledge.
    """

    name: str
    short: str
    what: str = ""
    source: str = ""


_DOCUMENT = "the importance document"
_HELD_OUT = "scored on conversations left out of the fit"

METHODS = {
    "random": Term(
        name="random order",
        short="random order",
        what="every turn scores the same, ties broken by chance: the floor",
    ),
    "relevance": Term(
        name="relevance alone",
        short="relevance alone",
        what="cosine between the embeddings of the query and the turn; the baseline to beat",
        source="standard dense retrieval",
    ),
    "bm25": Term(
        name="BM25 (shared words)",
        short="BM25",
        what="rare words that query and turn share, k₁ = 1.5, b = .75; the other baseline to beat",
        source="Robertson et al., Okapi BM25",
    ),
    "rrf": Term(
        name="relevance and BM25, ranks fused",
        short="rank fusion",
        what="Σ 1/(60 + rank) over relevance and BM25",
        source="Cormack, Clarke and Büttcher, SIGIR 2009",
    ),
    "equal": Term(
        name="four signals, equal weights",
        short="equal weights",
        what="decay, surprise, relevance and habituation, a quarter each",
    ),
    "genagents_paper": Term(
        name="Generative Agents, as the paper says",
        short="Gen. Agents (paper)",
        what="recency .995^hours, surprise for importance, and relevance, min-max scaled and added",
        source="Park et al., UIST 2023, section 4.1",
    ),
    "genagents_code": Term(
        name="Generative Agents, as the code does",
        short="Gen. Agents (code)",
        what=".5 recency + 3 relevance + 2 importance; its recency favours old memories",
        source="repository joonspk-research/generative_agents",
    ),
    "langchain": Term(
        name="LangChain time-weighted retriever",
        short="LangChain",
        what=".99^hours + cosine, hours since the turn was said",
        source="TimeWeightedVectorStoreRetriever, default decay rate",
    ),
    "intuitive": Term(
        name="the source's intuitive weights",
        short="“intuitive” weights",
        what="decay .40, surprise .30, relevance .20, habituation .10",
        source=_DOCUMENT,
    ),
    "optimal": Term(
        name="the source's “optimal” weights",
        short="“optimal” weights",
        what="decay .10, surprise .60, relevance .20, habituation .10",
        source=_DOCUMENT,
    ),
    "pearson": Term(
        name="weights chosen by correlation",
        short="fitted: correlation",
        what=f"four signals, the exact weights with the largest Pearson r, {_HELD_OUT}",
        source=f"the objective of {_DOCUMENT}; solved exactly here",
    ),
    "ndcg": Term(
        name="weights chosen by nDCG@10",
        short="fitted: nDCG@10",
        what=f"four signals, the best of a fine grid of weights, {_HELD_OUT}",
    ),
    "hybrid": Term(
        name="five signals with BM25",
        short="fitted: five signals",
        what=f"the four signals and BM25, weights chosen by nDCG@10, {_HELD_OUT}",
    ),
    "logistic": Term(
        name="logistic regression on all signals",
        short="fitted: all, logistic",
        what=f"every signal, those of neighbouring turns included, {_HELD_OUT}",
    ),
    "decay": Term(name="decay alone", short="decay alone", what="the most recent turns first"),
    "surprise": Term(
        name="surprise alone",
        short="surprise alone",
        what="turns unlike the 50 before them first; best of all, if the source were right",
        source=_DOCUMENT,
    ),
    "habituation": Term(
        name="habituation alone",
        short="habituation alone",
        what="turns with few earlier echoes first",
    ),
    "length": Term(name="length alone", short="length alone", what="the longest turns first"),
}

SIGNALS = {
    "decay": Term(name="decay", short="decay", what="exp(−age/τ): recent turns score high"),
    "surprise": Term(
        name="surprise",
        short="surprise",
        what="1 − the closest cosine among the 50 turns before: new content scores high",
    ),
    "relevance": Term(name="relevance", short="relevance", what="cosine of the turn and the query"),
    "habituation": Term(
        name="habituation",
        short="habituation",
        what="1/(1 + earlier turns with cosine ≥ .6): what was often said scores low",
    ),
    "lexical": Term(name="BM25", short="BM25", what="BM25 divided by the largest of the query"),
    "length": Term(name="length", short="length", what="ln(1 + number of words)"),
    "surprisal": Term(
        name="summed surprisal", short="surprisal", what="how rare the turn's words are, summed"
    ),
    "named": Term(
        name="speaker named", short="speaker named", what="1 where the query names the speaker"
    ),
    "question": Term(name="question", short="question", what="1 where the turn asks something"),
    "session": Term(
        name="place in session", short="place in session", what="1 at the start of a session"
    ),
} | {
    f"{signal}{k:+d}": Term(
        name=f"{name}, {abs(k)} {'before' if k < 0 else 'after'}",
        short=f"{name} {'−' if k < 0 else '+'}{abs(k)}",
        what=f"{name} of the turn {abs(k)} {'before' if k < 0 else 'after'} it",
    )
    for signal, name in (("relevance", "relevance"), ("lexical", "BM25"))
    for k in (-2, -1, 1, 2)
}

METRICS = {
    "r": Term(name="r", short="r", what="Pearson correlation of score and truth over all pairs"),
    "auc": Term(
        name="AUC",
        short="AUC",
        what="chance that a relevant turn scores above an irrelevant one; .5 is guessing",
    ),
    "ndcg_10": Term(
        name="nDCG@10",
        short="nDCG@10",
        what="how well the first ten hold what matters, early places counting more; 1 is perfect",
    ),
    "recall_5": Term(
        name="Recall@5", short="Recall@5", what="share of what matters that is among the first 5"
    ),
    "recall_10": Term(
        name="Recall@10", short="Recall@10", what="share of what matters that is among the first 10"
    ),
    "recall_20": Term(
        name="Recall@20", short="Recall@20", what="share of what matters that is among the first 20"
    ),
    "mrr": Term(name="MRR", short="MRR", what="mean of 1/place of the first relevant turn"),
}

INTERVALS = {
    "jackknife-t": "estimate ± Student's t × the standard error from leaving each cluster out; "
    "the form for few clusters",
    "studentised": "quantiles of the resampled t, the standard error renewed in every resample",
    "upper": "one-sided upper bound: the weight sits on the edge at 0, so only its largest "
    "plausible value means anything",
    "lower": "one-sided lower bound: the weight sits on the edge at 1",
    "percentile": "quantiles of the resampled estimate",
    "bca": "quantiles of the resampled estimate, corrected for bias and skew",
}

VERDICTS = {
    "supported": ("✓", "the whole interval lies where the claim is true"),
    "refuted": ("✕", "the whole interval lies where the claim is false"),
    "undecided": ("?", "the interval reaches over the edge: these data do not decide"),
}

STATUSES = {
    "replication": "these data were known when claim and margin were fixed, so this repeats "
    "what was seen and confirms nothing new",
    "confirmatory": "nobody had looked at these data when claim and margin were fixed, so this "
    "is a fair first test",
}

TRUTHS = {
    "evidence": "evidence: annotators marked the turns that answer each question. The questions "
    "carry no time of asking.",
    "callback": "callback: a later message takes up a rare word that an earlier turn said first. "
    "A weak kind of truth, but with true times; the word is masked so that it cannot give itself "
    "away.",
}

COMPUTATIONS = {
    "embeddings and signals": "sentence embeddings, from the cache where known, and all signals",
    "weight search": "nDCG of every candidate weight, and the choice by held-out conversations",
    "logistic": "logistic regression on all signals, once for each conversation left out",
    "bootstrap": "conversations drawn again with replacement, the weights refitted every time",
    "permutation": "labels rotated or signs flipped by conversation: what chance would give",
}

FILES = {
    "report.html": "this page",
    "result.json": "every number of this page, as --json prints it",
    "details.json": "what the figures are drawn from",
    "weights.json": "the recommended weights, for use",
    "verdicts.json": "the verdicts, with the hash of each claim",
    "config.toml": "the settings of the run",
    "env.json": "the computer and the version of every package",
    "status.json": "how the run ended and the seconds it took",
    "events.jsonl": "what happened when; never the text of a conversation",
    "samples.parquet": "the resamples and the null distribution, a row a draw",
    "posterior.nc": "the draws of the posterior, as ArviZ opens them (with bayes or full)",
    "checkpoints/": "what --resume goes on from",
    "figures/": "the figures, as SVG",
    "MANIFEST.sha256": "the checksum of every file",
}


def method(name: str) -> Term:
    """What is called by this id; an unknown id names itself."""
    return METHODS.get(name) or _itself(name)


def signal(name: str) -> Term:
    """What is called by this id; an unknown id names itself."""
    return SIGNALS.get(name) or _itself(name)


def metric(name: str) -> Term:
    """What is called by this id; an unknown id names itself."""
    return METRICS.get(name) or _itself(name)


def _itself(name: str) -> Term:
    seen = "".join(c if c.isprintable() else "\ufffd" for c in name)
    return Term(name=seen, short=seen)
