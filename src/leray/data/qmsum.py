"""QMSum: real meetings, with queries and the spans of turns that answer them.

One meeting a line. A specific query has spans ``[["459", "530"]]`` of indices into the
transcript, both ends included; a general query (the whole meeting) has none and is dropped.
Marks such as ``{disfmarker}`` are stripped, and a turn left without a letter or a digit is dropped
after the spans are resolved, so that indices keep their meaning. The tokens stay spaced as they
are ("what 's"). Meetings carry no times.

Source: Zhong et al., "QMSum: a new benchmark for query-based multi-domain meeting summarization",
NAACL 2021, MIT.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from leray.data.reading import as_list, counted, objects, sound
from leray.errors import LerayError
from leray.memory.conversations import Conversation, Corpus, LoadReport, Query, Turn

_MARK = re.compile(r"\{[^{}]*\}")
_SPACES = re.compile(r"\s+")
_SPLITS = ("train", "val", "test")


def load_qmsum(path: Path) -> Corpus:
    """All meetings of a folder (train, val and test where present) or of one file.

    Raises:
        LerayError: No usable meeting.
    """
    report = LoadReport()
    files = _files(path)
    conversations = tuple(c for file in files for c in _meetings(file, report))
    if not conversations:
        found = "; ".join(report.notes[:3]) or f"{len(files)} .jsonl files, no meeting"
        raise LerayError(
            f"no QMSum meeting in {str(path)!r} ({found}); "
            "give the folder of val.jsonl and test.jsonl, or one such file"
        )
    num_queries = sum(len(c.queries) for c in conversations)
    return Corpus(
        name=f"qmsum:{path}",
        conversations=conversations,
        truth="evidence",
        report=report,
        description=(
            f"{counted(len(conversations), 'meeting')} of QMSum (Zhong et al. 2021, MIT; "
            f"{', '.join(f.stem for f in files)}) with "
            f"{counted(num_queries, 'specific query', 'specific queries')} and the spans of turns "
            "that annotators marked; all that were usable."
        ),
        redistributable=True,
    )


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    splits = [path / f"{name}.jsonl" for name in _SPLITS]
    return [file for file in splits if file.is_file()] or sorted(path.glob("*.jsonl"))


def _meetings(file: Path, report: LoadReport) -> Iterator[Conversation]:
    for number, raw in objects(file, report):
        place = f"{file.name}, line {number}"
        turns = _turns(as_list(raw.get("meeting_transcripts")), place, report)
        if not any(turns):
            report.drop("meeting without turns", f"{place}: meeting_transcripts holds no text")
            continue
        yield Conversation(
            id=f"{file.stem}-{number}",
            turns=tuple(t for t in turns if t is not None),
            queries=_queries(raw, turns, place, report),
        )


def _turns(transcript: list[Any], place: str, report: LoadReport) -> list[Turn | None]:
    """One entry for each index of the transcript, None where nothing was said."""
    turns: list[Turn | None] = []
    for index, item in enumerate(transcript):
        raw = item if isinstance(item, dict) else {}
        content, speaker = raw.get("content"), raw.get("speaker")
        written = sound(content) if isinstance(content, str) else ""
        text = _SPACES.sub(" ", _MARK.sub(" ", written)).strip()
        if not any(map(str.isalnum, text)):
            report.drop("turn without words", f"{place}: turn {index} has no words")
            turns.append(None)
            continue
        if _MARK.search(written):
            report.repair("turn with transcriber's marks")
        name = sound(speaker) if isinstance(speaker, str) else ""
        turns.append(Turn(id=str(index), speaker=name, text=text))
    return turns


def _queries(
    raw: dict[str, Any], turns: list[Turn | None], place: str, report: LoadReport
) -> tuple[Query, ...]:
    for number, _ in enumerate(as_list(raw.get("general_query_list")), start=1):
        report.drop("general query without spans", f"{place}: general query {number}")
    queries = []
    for number, item in enumerate(as_list(raw.get("specific_query_list")), start=1):
        where = f"{place}, query {number}"
        query = item if isinstance(item, dict) else {}
        text = query.get("query")
        if not isinstance(text, str) or not text.strip():
            report.drop("query without text", f"{where}: no text")
            continue
        marked: set[int] = set()
        for span in as_list(query.get("relevant_text_span")):
            marked |= _span(span, len(turns), where, report)
        evidence = tuple(t.id for i in sorted(marked) if (t := turns[i]) is not None)
        if evidence:
            queries.append(Query(id=f"q{number}", text=sound(text), evidence=evidence))
        else:
            report.drop("query without evidence", f"{where}: its spans hold no turn")
    return tuple(queries)


def _span(span: object, num_turns: int, where: str, report: LoadReport) -> set[int]:
    """The indices of a span, both ends included, within the transcript."""
    try:
        first, last = (int(str(end)) for end in span)  # pyright: ignore[reportGeneralTypeIssues]
    except (TypeError, ValueError):
        report.drop("span that cannot be read", f"{where}: a span is not two whole numbers")
        return set()
    inside = set(range(max(first, 0), min(last, num_turns - 1) + 1))
    if not inside:
        report.drop("span outside the meeting", f"{where}: [{first}, {last}] of {num_turns} turns")
    elif first < 0 or last >= num_turns:
        report.repair("span clipped", f"{where}: [{first}, {last}] of {num_turns} turns")
    return inside
