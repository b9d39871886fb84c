"""LoCoMo: ten very long conversations, with questions and the turns that answer them.

A folder holds one JSON file a conversation, with flat keys: ``session_N`` (turns),
``session_N_date_time`` (one date a session, which every turn of it takes, as UTC) and ``qa``.
Evidence ids are written by hand: several in one string, a colon or a zero too many, ids of no turn.
Those that can be read are mended, the rest is dropped, and both are counted.

Source: Maharana et al., "Evaluating very long-term conversational memory of LLM agents", ACL 2024.
Its licence does not let the data travel.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from leray.data.reading import as_list, counted, in_order, kind_of, read_json, sound
from leray.errors import LerayError
from leray.memory.conversations import Conversation, Corpus, LoadReport, Query, Turn

_SESSION = re.compile(r"session_([0-9]{1,6})")
_DATE = re.compile(r"(0?[1-9]|1[0-2]):([0-9]{2}) *([ap])m on ([0-9]{1,2}) ([a-z]+),? ([0-9]{4})")
_EVIDENCE = re.compile(r"D:?([0-9]{1,6}):([0-9]{1,6})")
_MONTHS = (
    *("january", "february", "march", "april", "may", "june"),
    *("july", "august", "september", "october", "november", "december"),
)


def load_locomo(path: Path) -> Corpus:
    """All conversations of a folder of LoCoMo files, or of one such file.

    Raises:
        LerayError: The folder holds no usable conversation.
    """
    files = sorted(path.glob("*.json")) if path.is_dir() else [path]
    report = LoadReport()
    loaded = [_conversation(file, report) for file in files]
    conversations = tuple(c for c in loaded if c is not None)
    if not conversations:
        found = "; ".join(report.notes[:3]) or f"{len(files)} .json files"
        raise LerayError(
            f"no LoCoMo conversation in {str(path)!r} ({found}); "
            "give the folder of JSON files with session_1, session_1_date_time and qa"
        )
    num_questions = sum(len(c.queries) for c in conversations)
    return Corpus(
        name=f"locomo:{path}",
        conversations=conversations,
        truth="evidence",
        report=report,
        description=(
            f"{counted(len(conversations), 'long conversation')} of LoCoMo (Maharana et al. 2024) "
            f"with {counted(num_questions, 'question')} and the turns that annotators marked as "
            "their evidence; all that were usable."
        ),
        seen=True,
    )


def _conversation(file: Path, report: LoadReport) -> Conversation | None:
    try:
        raw = read_json(file)
    except LerayError as error:
        report.drop("file not JSON", str(error))
        return None
    if not isinstance(raw, dict):
        report.drop("file not an object", f"{file.name}: {kind_of(raw)} came, not one object")
        return None
    turns = _turns(file.name, raw, report)
    if not turns:
        report.drop("file without turns", f"{file.name}: no session holds a turn")
        return None
    queries = _queries(file.name, raw.get("qa"), {t.id for t in turns}, report)
    return Conversation(id=file.stem, turns=turns, queries=queries)


def _turns(name: str, raw: dict[str, Any], report: LoadReport) -> tuple[Turn, ...]:
    numbers = {int(match[1]) for key in raw if (match := _SESSION.match(key))}
    turns: dict[str, Turn] = {}
    for number in sorted(numbers):
        place = f"{name}, session {number}"
        session = as_list(raw.get(f"session_{number}"))
        date = raw.get(f"session_{number}_date_time")
        if not session:
            if date is not None:
                report.drop("session date without turns", f"{place}: a date and no turns")
            continue
        time = session_time(date) if isinstance(date, str) else None
        if time is None:
            report.drop("session date that cannot be read", f"{place}: turns are left without time")
        for item in session:
            _add_turn(turns, item, time, place, report)
    return in_order(list(turns.values()), report, [f"{name}, turn {key!r}" for key in turns])


def _add_turn(
    turns: dict[str, Turn], item: object, time: float | None, place: str, report: LoadReport
) -> None:
    raw = item if isinstance(item, dict) else {}
    key, text, caption = (raw.get(k) for k in ("dia_id", "text", "blip_caption"))
    if not isinstance(key, str) or not isinstance(text, str):
        report.drop("turn without id or text", f"{place}: a turn lacks dia_id or text")
    elif key in turns:
        report.drop("turn id used twice", f"{place}: {key!r} came before; the first is kept")
    elif not (text.strip() or caption):
        report.drop("turn without text", f"{place}: {key!r} is empty")
    else:
        turns[key] = Turn(
            id=key,
            speaker=sound(str(raw.get("speaker") or "")),
            text=sound(text),
            time=time,
            caption=sound(caption) if isinstance(caption, str) and caption else None,
        )


def session_time(date: str) -> float | None:
    """A session's date to seconds since 1970 UTC, whatever the locale; None where unreadable.

    >>> session_time("1:56 pm on 8 May, 2023")
    1683554160.0
    """
    match = _DATE.fullmatch(date.strip().lower())
    if match is None or match[5] not in _MONTHS:
        return None
    hour = int(match[1]) % 12 + 12 * (match[3] == "p")
    month = _MONTHS.index(match[5]) + 1
    try:
        moment = datetime(int(match[6]), month, int(match[4]), hour, int(match[2]), tzinfo=UTC)
    except ValueError:
        return None
    return moment.timestamp()


def _queries(name: str, qa: object, known: set[str], report: LoadReport) -> tuple[Query, ...]:
    queries = []
    for number, item in enumerate(as_list(qa), start=1):
        place = f"{name}, question {number}"
        raw = item if isinstance(item, dict) else {}
        question = raw.get("question")
        if not isinstance(question, str) or not question.strip():
            report.drop("question without text", f"{place}: no text")
            continue
        evidence = _evidence(as_list(raw.get("evidence")), known, place, report)
        if evidence:
            queries.append(Query(id=f"q{number}", text=sound(question), evidence=evidence))
        else:
            report.drop("question without evidence", f"{place}: no turn is marked for it")
    return tuple(queries)


def _evidence(
    marked: list[Any], known: set[str], place: str, report: LoadReport
) -> tuple[str, ...]:
    """The ids of turns that a hand-written list means, each once, in its order."""
    ids: dict[str, None] = {}
    for written in marked:
        found = _EVIDENCE.findall(written) if isinstance(written, str) else []
        if not found:
            report.drop("evidence id that cannot be read", f"{place}: {written!r:.40} is no id")
        elif len(found) > 1:
            report.repair("evidence ids in one string", f"{place}: {written!r:.80} split")
        for session, turn in found:
            key = f"D{int(session)}:{int(turn)}"
            if len(found) == 1 and key != written:
                report.repair("evidence id misspelt", f"{place}: {written!r:.40} read as {key!r}")
            if key not in known:
                report.drop("evidence id of no turn", f"{place}: {key!r} does not exist")
            elif key in ids:
                report.repair("evidence id named twice", f"{place}: {key!r} kept once")
            else:
                ids[key] = None
    return tuple(ids)
