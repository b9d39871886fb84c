"""Texts to train on: documents, split once into train, tune and report.

A source is a file, a pattern of files, a folder of text files, ``stdlib``: the sources of the
Python standard library, which are on every machine, or ``logicstream``: arguments with their
answers (:mod:`leray.circuits.logicstream`), short ones first to train on, and for the report said
in ways that are not trained. Documents are files; where these are fewer than twenty, each is cut at
the headings of WikiText where it has them, else at blank lines into pieces of about 8 KB.

Of ten documents one is for tuning and one for the report: in order, or by a hash of the text where
documents are files, so that copies of one file are on one side. Pieces of one long text that are
neighbours may be on different sides; they share no text, but an author and a subject.
"""

from __future__ import annotations

import hashlib
import inspect
import re
import sysconfig
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from leray.circuits import logic, logicstream
from leray.circuits.logicstream import HELD_OUT, SURFACES, drawn_line
from leray.errors import LerayError

Split = Literal["train", "tune", "report"]
SPLITS: tuple[Split, ...] = ("train", "tune", "report")

HEADING = re.compile(r"^ = [^=\n].*[^=\n] = $", re.MULTILINE)
PIECE = 8192
"""Characters after which a long text is cut at the next blank line."""
SUFFIXES = (".txt", ".md", ".py", ".rst", ".text")
SHARE = 10
"""One of so many documents tunes, and one is for the report."""
NUM_ARGUMENTS: dict[Split, int] = {"train": 400_000, "tune": 2_000, "report": 2_000}
FEW = 20
"""Files that are fewer are cut into pieces."""


@dataclass(frozen=True, slots=True)
class Document:
    """A piece of text that is read from its beginning."""

    name: str
    text: str
    is_piece: bool = False
    """Of a longer text."""


@dataclass(frozen=True, slots=True)
class Texts:
    """The documents of a source by split."""

    source: str
    splits: Mapping[Split, tuple[Document, ...]]
    dropped: Mapping[str, int]
    """How many documents were left out, by the reason."""
    digest: str = ""
    """Of what the documents follow from, where that is known before they are made."""


def read_texts(source: str) -> Texts:
    """The documents of a source, split.

    Raises:
        LerayError: As `read_documents`, or there is too little to split.
    """
    if source == "logicstream":
        return texts_of(Arguments(dict(NUM_ARGUMENTS)))
    documents, dropped = read_documents(source)
    splits = _split(documents, by_text=not documents[0].is_piece)
    if not all(splits.values()):
        raise LerayError(
            f"{source!r} holds {len(documents)} documents, too few to split into train, tune and "
            "report: give more text (about 200 KB at least)"
        )
    return Texts(source, splits, dropped)


def read_documents(source: str) -> tuple[list[Document], dict[str, int]]:
    """The documents of ``stdlib``, a file, a pattern or a folder, and what was dropped, by reason.

    Raises:
        LerayError: Nothing is there, or nothing can be read as UTF-8.
    """
    dropped: dict[str, int] = {}
    if not source.strip():
        raise LerayError("text is empty: give a file, a pattern of files, a folder, or 'stdlib'")
    if source == "stdlib":
        return _below(Path(sysconfig.get_paths()["stdlib"]), _is_library, dropped), dropped
    path = Path(source)
    if path.is_dir():
        documents = _below(path, _is_text, dropped)
    else:
        documents = [d for d in map(_read, _files(path)) if d.text.strip()]
    if not documents:
        raise LerayError(f"{source!r} holds no text but spaces")
    if len(documents) < FEW:
        documents = [p for d in documents for p in pieces(d)]
    return documents, dropped


@dataclass(frozen=True)
class Arguments(Mapping[Split, tuple[Document, ...]]):
    """LogicStream, the same on every machine, made when it is read.

    Args:
        numbers: Of arguments, by split.
        forms: Which of :data:`leray.circuits.logicstream.FORMS`.
        max_distractors: In one of them.
        contents: Of :data:`leray.circuits.logicstream.CONTENTS`, each as often as it is there.
    """

    numbers: Mapping[Split, int]
    forms: tuple[str, ...] = tuple(logicstream.FORMS)
    max_distractors: int = logicstream.MAX_DISTRACTORS
    contents: tuple[str, ...] = logicstream.MIXED

    def __getitem__(self, split: Split) -> tuple[Document, ...]:
        generator = np.random.default_rng([SPLITS.index(split), 0])
        trained = tuple(s for s in SURFACES if s not in HELD_OUT)
        surfaces = HELD_OUT if split == "report" else trained
        lines = [
            drawn_line(
                generator,
                surfaces,
                forms=self.forms,
                contents=self.contents,
                max_distractors=self.max_distractors,
            )
            for _ in range(self.numbers[split])
        ]
        if split == "train":
            lines.sort(key=len)
        return tuple(Document(f"{split}#{k}", " ".join(x)) for k, x in enumerate(lines))

    def __iter__(self) -> Iterator[Split]:
        return iter(SPLITS)

    def __len__(self) -> int:
        return len(SPLITS)


def texts_of(arguments: Arguments) -> Texts:
    """As a source of text, whose digest is of the code that draws them and of how many."""
    code = "".join(map(inspect.getsource, (logic, logicstream, Arguments)))
    told = f"{code}{arguments!r}"
    return Texts("logicstream", arguments, {}, hashlib.sha256(told.encode()).hexdigest())


def pieces(document: Document) -> list[Document]:
    """A long text cut at WikiText's headings or, where it has under eight, at blank lines.

    Nothing is lost: joined, the pieces are the text.
    """
    text = document.text
    starts = [m.start() for m in HEADING.finditer(text)]
    if len(starts) < 8:
        starts = _cuts(text)
    ends = [*starts[1:], len(text)]
    starts[:1] = [0] if starts else []
    parts = (text[a:b] for a, b in zip(starts, ends, strict=True))
    kept = [p for p in parts if p.strip()]
    return [Document(f"{document.name}#{i}", p, is_piece=True) for i, p in enumerate(kept)]


def _cuts(text: str) -> list[int]:
    """Where pieces begin: at the first blank line after every 8,192 characters."""
    cuts, at = [0], 0
    while True:
        blank = text.find("\n\n", at + PIECE)
        if blank < 0 or blank + 2 >= len(text):
            return cuts
        at = blank + 2
        cuts.append(at)


def _split(documents: list[Document], *, by_text: bool) -> dict[Split, tuple[Document, ...]]:
    sides: dict[Split, list[Document]] = {s: [] for s in SPLITS}
    for i, d in enumerate(documents):
        draw = i
        if by_text:
            draw = int.from_bytes(hashlib.sha256(d.text.encode()).digest()[:4], "big")
        place = draw % SHARE
        sides["tune" if place == 0 else "report" if place == SHARE // 2 else "train"].append(d)
    return {s: tuple(found) for s, found in sides.items()}


def _below(
    folder: Path, wanted: Callable[[Path, Path], bool], dropped: dict[str, int]
) -> list[Document]:
    """Every text file below a folder, in the order of their names."""
    found = []
    for path in sorted(p for p in folder.rglob("*") if wanted(p, folder) and p.is_file()):
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            dropped["not UTF-8"] = dropped.get("not UTF-8", 0) + 1
            continue
        except OSError as error:
            raise LerayError(f"cannot read {path}: {error.strerror}") from error
        if text.strip():
            found.append(Document(str(path.relative_to(folder)), text))
    if not found:
        raise LerayError(
            f"no text below {folder}: files must end in {', '.join(SUFFIXES)} and hold UTF-8"
        )
    return found


def _is_text(path: Path, _folder: Path) -> bool:
    return path.suffix in SUFFIXES


def _is_library(path: Path, folder: Path) -> bool:
    """Sources of the library itself: neither installed packages nor tests."""
    parts = path.relative_to(folder).parts
    others = {"site-packages", "dist-packages", "test", "tests", "idle_test", "lib2to3"}
    return path.suffix == ".py" and not others.intersection(parts)


def _files(path: Path) -> list[Path]:
    """The path itself, or what a pattern in its last part finds, in order."""
    found = [path] if path.exists() else sorted(path.parent.glob(path.name))
    found = [p for p in found if p.is_file()]
    if not found:
        raise LerayError(
            f"no text at {str(path)!r:.200}: give a file, a pattern of files, a folder, or 'stdlib'"
        )
    return found


def _read(path: Path) -> Document:
    try:
        return Document(path.name, path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise LerayError(
            f"{path} is not UTF-8 at byte {error.start:,}: convert it first"
        ) from error
    except OSError as error:
        raise LerayError(f"cannot read {path}: {error.strerror}") from error
