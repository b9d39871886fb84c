"""A person's exported ChatGPT history, each conversation followed along the path that was kept.

``conversations.json`` is a list of conversations. Each is a tree of messages (``mapping``), since
editing a message or asking for another answer starts a branch; ``current_node`` is the leaf that
was on the screen last, and its ancestors are what the person kept. All conversations are one
person's, so they are one history.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from leray.data.reading import (
    counted,
    decode,
    is_finite,
    kind_of,
    open_bytes,
    parse,
    seconds,
    sound,
)
from leray.errors import LerayError
from leray.memory.conversations import Conversation, Corpus, LoadReport, Turn

PERSON = "me"
MEMBER = "conversations.json"
MAX_BYTES = 1 << 30
_SPOKEN = ("text", "multimodal_text")


def load_chatgpt(path: Path) -> Corpus:
    """All conversations of ``conversations.json``, or of the ``.zip`` export that holds it.

    Raises:
        LerayError: The file is no such export, or holds no usable conversation.
    """
    report = LoadReport()
    conversations = tuple(_conversations(_items(_text(path), path, report), report))
    if not conversations:
        found = "; ".join(report.notes[:3]) or "it is empty"
        raise LerayError(
            f"no ChatGPT conversation in {str(path)!r} ({found}); "
            f"give the {MEMBER} of an export, or its .zip"
        )
    return Corpus(
        name=f"chatgpt:{path}",
        conversations=conversations,
        truth="callback",
        report=report,
        description=(
            f"{counted(len(conversations), 'conversation')} of one person with ChatGPT, from an "
            "export, joined into one history; all that were usable."
        ),
    )


def _text(path: Path) -> str:
    """The text of the file, or of the one member of the archive, which is not extracted."""
    with open_bytes(path) as handle:
        if not zipfile.is_zipfile(handle):
            handle.seek(0)
            return decode(handle.read(), path)
        try:
            with zipfile.ZipFile(handle) as archive:
                return decode(_member(archive, path), path)
        except (zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError, OSError) as error:
            raise LerayError(f"{str(path)!r} cannot be unpacked ({error}); unpack it") from None


def _member(archive: zipfile.ZipFile, path: Path) -> bytes:
    named = [i for i in archive.infolist() if PurePosixPath(i.filename).name == MEMBER]
    if not named:
        raise LerayError(f"{str(path)!r} holds no {MEMBER}; give the .zip of a ChatGPT export")
    with archive.open(named[0]) as member:
        raw = member.read(MAX_BYTES + 1)
    if len(raw) > MAX_BYTES:
        raise LerayError(
            f"{MEMBER} in {str(path)!r} is larger than {MAX_BYTES:,} bytes; "
            "unpack it yourself if you trust it and give the file"
        )
    return raw


def _items(text: str, path: Path, report: LoadReport) -> list[Any]:
    try:
        value = parse(text)
    except ValueError as error:
        items = list(_whole_items(text))
        whole = counted(len(items), "conversation")
        report.drop("rest of a broken file", f"not JSON after {whole} ({error})")
        return items
    if not isinstance(value, list):
        raise LerayError(
            f"{str(path)!r} holds {kind_of(value)}; a ChatGPT export is a list of conversations"
        )
    return value


def _whole_items(text: str) -> Iterator[Any]:
    """The items of a JSON list that come before the place where it breaks off."""
    decoder = json.JSONDecoder()
    position = text.find("[") + 1
    while position and position < len(text):
        while position < len(text) and text[position] in " \t\r\n,":
            position += 1
        try:
            item, position = decoder.raw_decode(text, position)
        except (ValueError, RecursionError):
            return
        yield item


def _conversations(items: list[Any], report: LoadReport) -> Iterator[Conversation]:
    ids: set[str] = set()
    for number, item in enumerate(items, start=1):
        place = f"conversation {number}"
        if not isinstance(item, dict) or not isinstance(item.get("mapping"), dict):
            report.drop("conversation without messages", f"{place}: no mapping of messages")
            continue
        turns = _turns(item, place, report)
        if not turns:
            report.drop("conversation without text", f"{place}: no message with text was kept")
            continue
        key = item.get("conversation_id") or item.get("id")
        name = sound(key) if isinstance(key, str) else f"{number}"
        if name in ids:
            report.repair("conversation id used twice", f"{place}: its number is added to its id")
            name = f"{name}#{number}"
        ids.add(name)
        yield Conversation(id=name, turns=turns, person=PERSON)


def _turns(item: dict[str, Any], place: str, report: LoadReport) -> tuple[Turn, ...]:
    mapping: dict[str, Any] = item["mapping"]
    leaf = item.get("current_node")
    if not isinstance(leaf, str) or leaf not in mapping:
        leaf = _last_leaf(mapping)
        report.repair("current_node missing", f"{place}: its last leaf is taken instead")
    latest: float | None = None
    turns: list[Turn] = []
    for node in _path(mapping, leaf, place, report):
        message = mapping[node].get("message")
        text = _spoken(message, place, report) if isinstance(message, dict) else None
        if text is None:
            continue
        latest = _time(message.get("create_time"), latest, place, report)
        role = message["author"]["role"]
        turns.append(Turn(id=sound(node), speaker=role, text=text, time=latest))
    # Messages before the first known time take that one; where none is known, the conversation's.
    start = next((t.time for t in turns if t.time is not None), _seconds(item.get("create_time")))
    return tuple(t if t.time is not None else replace(t, time=start) for t in turns)


def _path(mapping: dict[str, Any], leaf: str | None, place: str, report: LoadReport) -> list[str]:
    """The nodes from the root to the leaf."""
    path: dict[str, None] = {}
    node: Any = leaf
    while isinstance(node, str) and isinstance(mapping.get(node), dict):
        if node in path:
            report.repair("circle of messages", f"{place}: a message is its own ancestor; cut")
            break
        path[node] = None
        node = mapping[node].get("parent")
    return list(path)[::-1]


def _last_leaf(mapping: dict[str, Any]) -> str | None:
    """The node without children whose message is the latest; the last written where times tie."""
    leaves = [
        (_created(node), position, name)
        for position, (name, node) in enumerate(mapping.items())
        if isinstance(node, dict) and not node.get("children")
    ]
    return max(leaves)[2] if leaves else next(reversed(mapping), None)


def _created(node: dict[str, Any]) -> float:
    message = node.get("message")
    time = message.get("create_time") if isinstance(message, dict) else None
    return float(time) if is_finite(time) else float("-inf")


def _spoken(message: dict[str, Any], place: str, report: LoadReport) -> str | None:
    """What the user or the assistant said in words; None, and counted, for anything else."""
    author, content = message.get("author"), message.get("content")
    role = author.get("role") if isinstance(author, dict) else None
    parts = content.get("parts") if isinstance(content, dict) else None
    if role not in ("user", "assistant"):
        report.drop("message of system or tool", f"{place}: neither user nor assistant")
        return None
    if content is None or content.get("content_type") not in _SPOKEN or not isinstance(parts, list):
        report.drop("message of another content type", f"{place}: neither text nor multimodal_text")
        return None
    for part in parts:
        if not isinstance(part, str):
            report.drop("part that is not text", f"{place}: {kind_of(part)}, such as a picture")
    text = sound("\n".join(p for p in parts if isinstance(p, str))).strip()
    if not text:
        report.drop("message without text", f"{place}: no text")
        return None
    return text


def _time(value: object, before: float | None, place: str, report: LoadReport) -> float | None:
    """The message's time, or the one before where it has none or runs backwards on its path."""
    time = _seconds(value)
    if time is None:
        report.repair("message without time", f"{place}: takes its neighbour's time")
        return before
    if before is not None and time < before:
        report.repair("time going backwards", f"{place}: an answer before its question; made equal")
        return before
    return time


def _seconds(value: object) -> float | None:
    try:
        return seconds(value)
    except ValueError:
        return None
