"""The Chit-Chat Challenge of Brigham Young University: 7,168 real chats with true times.

The embedded default. Chats between two people are ranked by their number of messages, the longest
first and ties by id, because callback truth needs a past that is long enough to forget. The 24
longest shaped the design; the 40 after them were left unread for what is to be confirmed, and are
40 because intervals are calibrated at 40 clusters.

Source: PyPI ``chitchat-dataset`` 0.9.0, MIT.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import Any

from leray.data.reading import in_order, read_json, seconds, sound
from leray.errors import LerayError
from leray.memory.conversations import Conversation, Corpus, LoadReport, Turn

NUM_SHAPED_DESIGN = 24
DEFAULT_RANKS = (25, 64)


def load_chitchat(ranks: str = "") -> Corpus:
    """The two-person chats whose rank by length lies in a range.

    Args:
        ranks: ``"A-B"``, both from 1 and included; empty for ranks 25 to 64.

    Raises:
        LerayError: The range cannot be read or is out of bounds, or the package is not installed.

    Cost: about 2 s of one core: 0.6 to read 40 MB of JSON, 1.4 to count the words of all chats.
    """
    chats: dict[str, Any] = read_json(_dataset_path())
    sizes = {name: _num_messages(chat) for name, chat in chats.items() if _is_pair(chat)}
    ranked = sorted(sizes, key=lambda name: (-sizes[name], name))
    first, last = _range(ranks, len(ranked))
    report = LoadReport()
    chosen = tuple(
        Conversation(id=name, turns=_turns(name, chats[name], report))
        for name in ranked[first - 1 : last]
    )
    return Corpus(
        name=f"chitchat:{first}-{last}" if (first, last) != DEFAULT_RANKS else "chitchat",
        conversations=tuple(c for c in chosen if c.turns),
        truth="callback",
        report=report,
        description=_description(first, last, len(chats), len(ranked)),
        seen=first <= NUM_SHAPED_DESIGN,
        redistributable=True,
        num_word_conversations=_num_word_conversations(chats),
        collection_size=len(chats),
    )


def _dataset_path() -> Path:
    spec = find_spec("chitchat_dataset")
    path = Path(spec.origin).with_name("dataset.json") if spec and spec.origin else None
    if path is None or not path.is_file():
        raise LerayError("the chit-chat data are not installed; run: pip install chitchat-dataset")
    return path


def _range(ranks: str, num_pairs: int) -> tuple[int, int]:
    if not ranks:
        return DEFAULT_RANKS
    match = re.fullmatch(r"([0-9]{1,6})-([0-9]{1,6})", ranks)
    first, last = (int(match[1]), int(match[2])) if match else (0, 0)
    if not 1 <= first <= last <= num_pairs:
        raise LerayError(
            f"chitchat:{ranks} names no chats; allowed: chitchat:A-B with 1 ≤ A ≤ B ≤ {num_pairs},"
            " such as chitchat:25-64"
        )
    return first, last


def _description(first: int, last: int, num_chats: int, num_pairs: int) -> str:
    num = last - first + 1
    counted = f"{num} chat{'s' * (num != 1)}"
    what = (
        f"{counted} between two people from the {num_chats:,} of the Chit-Chat Challenge (BYU, "
        f"MIT): ranks {first} to {last} of {num_pairs:,} by number of messages"
    )
    if (first, last) == DEFAULT_RANKS:
        return (
            f"{what}; the longest, because callbacks need a past, after the first "
            f"{NUM_SHAPED_DESIGN}, because those shaped the design, and {num}, because intervals "
            f"are calibrated at {num} clusters."
        )
    shaped = f"; the first {NUM_SHAPED_DESIGN} shaped the design" * (first <= NUM_SHAPED_DESIGN)
    return f"{what}, as asked for{shaped}."


def _messages(chat: Mapping[str, Any]) -> list[dict[str, str]]:
    return [message for burst in chat["messages"] for message in burst]


def _num_messages(chat: Mapping[str, Any]) -> int:
    return sum(map(len, chat["messages"]))


def _is_pair(chat: Mapping[str, Any]) -> bool:
    return len({m["sender"] for m in _messages(chat)}) == 2


def _turns(name: str, chat: Mapping[str, Any], report: LoadReport) -> tuple[Turn, ...]:
    letters: dict[str, str] = {}
    turns = []
    for number, message in enumerate(_messages(chat), start=1):
        speaker = letters.setdefault(message["sender"], "B" if letters else "A")
        place = f"chat {name}, message {number}"
        text = sound(message["text"]).strip()
        if not text:
            report.drop("message without text", f"{place}: no text")
            continue
        time = _time(message["timestamp"], place, report)
        turns.append(Turn(id=str(number), speaker=speaker, text=text, time=time))
    return in_order(turns, report, [f"chat {name}, message {t.id}" for t in turns])


def _time(stamp: object, place: str, report: LoadReport) -> float | None:
    try:
        return seconds(stamp)
    except ValueError as error:
        report.drop("time that cannot be read", f"{place}: its time cannot be read; {error}")
        return None


def _num_word_conversations(chats: Mapping[str, Any]) -> dict[str, int]:
    """In how many chats of the whole collection each word occurs.

    No word holds a space, so each piece between spaces is taken apart once for all chats.
    """
    from leray.memory.labels import words

    words_of = cache(words)
    counts: Counter[str] = Counter()
    for chat in chats.values():
        pieces = set(" ".join([m["text"] for m in _messages(chat)]).lower().split())
        counts.update(set(chain.from_iterable(map(words_of, pieces))))
    return dict(counts)
