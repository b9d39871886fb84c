"""Tokens: bytes, words, or a byte-pair encoding of the training split; files of them in memory.

A document is its tokens after one separator, the token 0, from which its first token is predicted.
The tokens of a split lie in one file, mapped into memory and never read whole, named by what they
were made from, so that a second run finds them.

Source: Sennrich et al., Neural machine translation of rare words with subword units (arXiv
1508.07909), by the `tokenizers` library.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE, WordLevel
from tokenizers.pre_tokenizers import ByteLevel, WhitespaceSplit
from tokenizers.trainers import BpeTrainer, WordLevelTrainer

from leray.errors import LerayError
from leray.runs.files import atomic_write, make_folder
from leray.train.text import SPLITS, Document, Split, Texts

SEPARATOR = 0
SEPARATOR_TEXT = "<|separator|>"
UNKNOWN_TEXT = "<|unknown|>"
QUESTION = "?"


@dataclass(frozen=True)
class Vocabulary:
    """How text becomes numbers and back.

    Args:
        merges: The JSON of a trained `tokenizers.Tokenizer`; None for bytes.
    """

    merges: str | None = None

    @property
    def size(self) -> int:
        return 256 if self.merges is None else self._tokenizer.get_vocab_size()

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(np.uint8 if self.size <= 256 else np.uint16)

    def encode(self, text: str) -> np.ndarray:
        """The tokens of a text; the byte 0 in a text is read as the separator."""
        if self.merges is None:
            return np.frombuffer(text.encode(), dtype=np.uint8)
        return np.array(self._tokenizer.encode(text).ids, dtype=self.dtype)

    def decode(self, tokens: Iterable[int] | np.ndarray) -> str:
        """The text of tokens; bytes that are no UTF-8 become U+FFFD."""
        kept = [int(t) for t in tokens if t != SEPARATOR]
        if self.merges is None:
            return bytes(kept).decode(errors="replace")
        return self._tokenizer.decode(kept)

    @property
    def _tokenizer(self) -> Tokenizer:
        assert self.merges is not None
        return _tokenizer(self.merges)


def vocabulary_size(name: object) -> int:
    """How many tokens ``bytes`` (also for None), ``bpe:N`` or ``words:N`` asks for.

    Raises:
        LerayError: Another name, or an N that is not 512 to 65,536; of words 3 or more.
    """
    if name in (None, "bytes"):
        return 256
    kind, _, size = str(name).partition(":")
    least = {"bpe": 512, "words": 3}.get(kind)
    number = int(size) if size.isascii() and size.isdecimal() else 0
    if least is None or not least <= number <= 65_536:
        raise LerayError(
            "tokens must be bytes, bpe:N with N from 512 to 65536, or words:N with N from 3; got "
            f"{name!r:.60}"
        )
    return number


def vocabulary_of(name: str, documents: Iterable[Document]) -> Vocabulary:
    """``bytes``; or N tokens at most of the documents: ``bpe:N``, or ``words:N`` between spaces.

    Raises:
        LerayError: As `vocabulary_size`.
    """
    size = vocabulary_size(name)
    if name == "bytes":
        return Vocabulary()
    if name.startswith("words:"):
        return Vocabulary(_words(size, documents).to_str())
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)  # pyright: ignore
    tokenizer.decoder = ByteLevelDecoder()  # pyright: ignore
    trainer = BpeTrainer(
        vocab_size=size,
        special_tokens=[SEPARATOR_TEXT],
        initial_alphabet=ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator((d.text for d in documents), trainer)
    return Vocabulary(tokenizer.to_str())


def _words(size: int, documents: Iterable[Document]) -> Tokenizer:
    tokenizer = Tokenizer(WordLevel(unk_token=UNKNOWN_TEXT))
    tokenizer.pre_tokenizer = WhitespaceSplit()  # pyright: ignore
    trainer = WordLevelTrainer(vocab_size=size, special_tokens=[SEPARATOR_TEXT, UNKNOWN_TEXT])
    tokenizer.train_from_iterator((d.text for d in documents), trainer)
    return tokenizer


@dataclass(frozen=True)
class TokenFiles:
    """The tokens of a source, mapped from files.

    Args:
        splits: One stream a split, separators included.
        starts: Where each document of a split begins, and the end: documents + 1 places.
        sizes: How many bytes of UTF-8 each document has.
        digest: Of all that these were made from.
    """

    vocabulary: Vocabulary
    splits: dict[Split, np.ndarray]
    starts: dict[Split, np.ndarray]
    sizes: dict[Split, np.ndarray]
    digest: str = ""


def token_files(texts: Texts, name: str, folder: Path) -> TokenFiles:
    """The tokens of all splits, made once and kept in ``folder``.

    Raises:
        LerayError: As `vocabulary_of`, or the folder cannot be written.

    Cost: about 30 MB/s for bytes and 2 MB/s for a byte-pair encoding, once.
    """
    whole = hashlib.sha256(f"{name}\n{texts.digest}".encode())
    for split in () if texts.digest else SPLITS:
        for d in texts.splits[split]:
            whole.update(f"{split} {len(d.text)} ".encode() + d.text.encode())
    home = folder / whole.hexdigest()[:24]
    if not (home / "index.json").exists():
        _make(texts, name, home)
    index = json.loads((home / "index.json").read_text())
    vocabulary = Vocabulary(index["merges"])
    splits, starts, sizes = {}, {}, {}
    for split in SPLITS:
        splits[split] = np.memmap(home / f"{split}.bin", dtype=vocabulary.dtype, mode="r")
        starts[split] = np.array(index[split]["starts"], dtype=np.int64)
        sizes[split] = np.array(index[split]["sizes"], dtype=np.int64)
    return TokenFiles(vocabulary, splits, starts, sizes, home.name)


def _make(texts: Texts, name: str, home: Path) -> None:
    """Write the streams, and last the index that says that they are whole."""
    make_folder(home)
    documents = dict(texts.splits)
    vocabulary = vocabulary_of(name, documents["train"])
    index: dict = {"merges": vocabulary.merges}
    for split in SPLITS:
        stream, starts, sizes = streams_of(vocabulary, documents[split])
        atomic_write(home / f"{split}.bin", stream.tobytes())
        index[split] = {"starts": starts.tolist(), "sizes": sizes.tolist()}
    atomic_write(home / "index.json", json.dumps(index))


def streams_of(
    vocabulary: Vocabulary, documents: Sequence[Document]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The tokens of documents behind each other, each after a separator; starts; sizes in bytes."""
    separator = np.array([SEPARATOR], dtype=vocabulary.dtype)
    streams = [vocabulary.encode(d.text) for d in documents]
    starts = np.cumsum([0, *(len(s) + 1 for s in streams)])
    sizes = np.array([len(d.text.encode()) for d in documents])
    return np.concatenate([x for s in streams for x in (separator, s)]), starts, sizes


@dataclass(frozen=True)
class Batches:
    """Windows of a stream in an order that a seed and the step alone decide.

    Every pass over the stream cuts it, from a random place on, into windows of ``context`` + 1
    tokens that share their ends, and takes them in a random order, so that a step's place follows
    from its number, and equal seeds see equal batches whatever the model.

    Raises:
        LerayError: The stream is shorter than one window.
    """

    tokens: np.ndarray
    context: int
    num_sequences: int
    """A step."""
    seed: int

    def __post_init__(self) -> None:
        if len(self.tokens) <= 2 * self.context:
            raise LerayError(
                f"{len(self.tokens):,} tokens of training text hold no two windows of "
                f"{self.context:,}: give more text or a smaller context"
            )

    @property
    def windows_in_pass(self) -> int:
        return len(self.tokens) // self.context - 1

    def at(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """The inputs and targets of a step, ``[sequences, context]`` each, int64."""
        first = step * self.num_sequences
        places = [self._place(first + i) for i in range(self.num_sequences)]
        rows = np.stack([self.tokens[p : p + self.context + 1] for p in places]).astype(np.int64)
        return rows[:, :-1], rows[:, 1:]

    def _place(self, index: int) -> int:
        pass_index, place = divmod(index, self.windows_in_pass)
        phase, order = _pass_order(self.seed, pass_index, self.windows_in_pass, self.context)
        return phase + int(order[place]) * self.context


def question_mark(vocabulary: Vocabulary) -> int:
    """The token after which answers are asked for.

    Raises:
        LerayError: The vocabulary has not one for it.
    """
    found = vocabulary.encode(QUESTION)
    if len(found) != 1 or vocabulary.decode(found) != QUESTION:
        raise LerayError(
            f"answers are what follows {QUESTION!r}, for which this vocabulary has no token: give "
            "a text with questions, or leave answers out of [loss]"
        )
    return int(found[0])


@dataclass(frozen=True)
class Answers:
    """Batches of whole documents, of which only what follows a question mark is predicted.

    A step's documents follow from the seed and the step's number: drawn from all, or for the first
    ``growing`` steps from the first ones, a number that grows with the step.

    Raises:
        LerayError: A document is longer than a window, or none has a question.
    """

    tokens: np.ndarray
    starts: np.ndarray
    """Where each document begins, and the end."""
    question: int
    """The token of a question mark."""
    context: int
    num_sequences: int
    seed: int
    growing: int = 0

    def __post_init__(self) -> None:
        longest = int(np.diff(self.starts).max()) - 1
        if longest > self.context:
            raise LerayError(
                f"a document of {longest:,} tokens does not fit the context, {self.context:,}: "
                "answers are asked of whole documents; give a longer context"
            )
        if not (self.tokens == self.question).any():
            raise LerayError("no document asks a question: leave answers out of [loss]")

    def at(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """``[sequences, context]`` each, int64; targets are −1 but behind question marks."""
        num = len(self.starts) - 1
        known = min(num, -(-num * (step + 1) // self.growing)) if self.growing else num
        drawn = np.random.default_rng([self.seed % 2**63, step]).integers(
            known, size=self.num_sequences
        )
        rows = np.zeros((self.num_sequences, self.context + 1), dtype=np.int64)
        for i, d in enumerate(drawn):
            found = self.tokens[self.starts[d] : self.starts[d + 1]]
            rows[i, : len(found)] = found
        inputs, following = rows[:, :-1], rows[:, 1:]
        return inputs, np.where(inputs == self.question, following, -1)


def windows_of(
    tokens: np.ndarray,
    starts: np.ndarray,
    context: int,
    num_sequences: int,
    *,
    question: int | None = None,
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """All documents in windows of ``context`` that follow each other, from each one's beginning.

    Yields (inputs, targets, documents), ``[sequences, context]``; where a window is longer than
    what is left of its document, the document is −1; with a ``question``, everywhere but behind it.
    """
    places = [
        (d, at)
        for d in range(len(starts) - 1)
        for at in range(int(starts[d]), int(starts[d + 1]) - 1, context)
    ]
    for first in range(0, len(places), num_sequences):
        part = places[first : first + num_sequences]
        rows = np.zeros((len(part), context + 1), dtype=np.int64)
        owner = np.full((len(part), context), -1, dtype=np.int64)
        for i, (d, at) in enumerate(part):
            found = tokens[at : min(at + context + 1, int(starts[d + 1]))]
            rows[i, : len(found)] = found
            owner[i, : len(found) - 1] = d
        if question is not None:
            owner[rows[:, :-1] != question] = -1
        yield rows[:, :-1], rows[:, 1:], owner


_orders: dict[tuple[int, int, int, int], tuple[int, np.ndarray]] = {}
_tokenizers: dict[str, Tokenizer] = {}


def _pass_order(seed: int, index: int, num: int, context: int) -> tuple[int, np.ndarray]:
    """The phase and the order of a pass; the last two are remembered."""
    asked = (seed, index, num, context)
    if asked not in _orders:
        if len(_orders) > 1:
            _orders.pop(next(iter(_orders)))
        generator = np.random.default_rng([seed % 2**63, index])
        _orders[asked] = (int(generator.integers(context)), generator.permutation(num))
    return _orders[asked]


def _tokenizer(text: str) -> Tokenizer:
    if text not in _tokenizers:
        _tokenizers.clear()
        _tokenizers[text] = Tokenizer.from_str(text)
    return _tokenizers[text]
