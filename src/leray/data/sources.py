"""Name data in one word: ``chitchat``, ``locomo:PATH``, ``qmsum:PATH``, ``chatgpt:PATH`` and so on.

| spec | what it loads | truth |
|---|---|---|
| ``chitchat``, ``chitchat:A-B`` | real chats, by rank of length | callback |
| ``synthetic``, ``synthetic:N`` | simulated conversations whose truth was planted | evidence |
| ``locomo:PATH`` | a folder of LoCoMo files | evidence |
| ``qmsum:PATH`` | a folder of QMSum files, or one | evidence |
| ``chatgpt:PATH`` | a person's export, ``.json`` or ``.zip`` | callback |
| ``jsonl:PATH``, ``PATH.jsonl`` | your own conversations | either |
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from leray.data.chatgpt import load_chatgpt
from leray.data.chitchat import load_chitchat
from leray.data.jsonl import load_jsonl
from leray.data.locomo import load_locomo
from leray.data.qmsum import load_qmsum
from leray.data.synthetic import load_synthetic
from leray.errors import LerayError, nearest
from leray.memory.conversations import Corpus

FILE_LOADERS: dict[str, Callable[[Path], Corpus]] = {
    "locomo": load_locomo,
    "qmsum": load_qmsum,
    "chatgpt": load_chatgpt,
    "jsonl": load_jsonl,
}
NAMED_LOADERS: dict[str, Callable[[str], Corpus]] = {
    "chitchat": load_chitchat,
    "synthetic": load_synthetic,
}
KINDS = (*NAMED_LOADERS, *FILE_LOADERS)


def load(spec: str) -> Corpus:
    """The data that a spec names.

    Args:
        spec: A kind, a colon and what it needs; or the bare path of a ``.jsonl`` file.

    Raises:
        LerayError: The kind is unknown, the path is missing, or nothing in it is usable.
    """
    kind, _, rest = spec.partition(":")
    if kind in NAMED_LOADERS:
        return NAMED_LOADERS[kind](rest)
    if kind in FILE_LOADERS:
        return FILE_LOADERS[kind](_existing(rest, kind))
    if spec.lower().endswith(".jsonl"):
        return load_jsonl(_existing(spec, "jsonl"))
    hint = nearest(kind, KINDS)
    if Path(spec).exists():
        hint = f"; if this is a file or folder, say of which kind, such as chatgpt:{spec}"
    raise LerayError(f"unknown data {spec!r}{hint}; allowed: {_allowed()}")


def _allowed() -> str:
    named = ["chitchat", "chitchat:A-B", "synthetic", "synthetic:N"]
    return ", ".join([*named, *(f"{kind}:PATH" for kind in FILE_LOADERS)])


def _existing(path: str, kind: str) -> Path:
    if not path:
        raise LerayError(f"{kind} needs a path; write {kind}:PATH")
    found, exists = Path(path), False
    try:
        found = found.expanduser()
        exists = found.exists()
    except (OSError, RuntimeError, ValueError):  # a name too long, no such user, a null byte
        pass
    if not exists:
        raise LerayError(f"no file or folder {path!r}; {kind}:PATH needs one that exists")
    return found
