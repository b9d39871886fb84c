"""Texts and tokens: nothing lost, nothing on two sides, the same order for the same seed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from leray.errors import LerayError
from leray.train import text
from leray.train.text import SPLITS, Document, pieces, read_documents, read_texts
from leray.train.tokens import (
    SEPARATOR,
    Answers,
    Batches,
    Vocabulary,
    question_mark,
    streams_of,
    token_files,
    vocabulary_of,
    vocabulary_size,
    windows_of,
)


@pytest.fixture
def folder(tmp_path):
    home = tmp_path / "texts"
    home.mkdir()
    for i in range(60):
        (home / f"{i:02d}.txt").write_text(f"document {i}\n" * (i + 1), encoding="utf-8")
    return home


@given(st.text(alphabet="ab =\n", max_size=400), st.integers(1, 40))
def test_identity_pieces_are_the_text(text, times):
    found = pieces(Document("x", text * times))
    kept = "".join(d.text for d in found)
    assert kept.replace("\n", "").replace(" ", "") == (text * times).replace("\n", "").replace(
        " ", ""
    )
    assert all(d.text.strip() for d in found)


def test_wikitext_is_cut_at_its_headings(tmp_path):
    articles = [f" = Article {i} = \n\n body {i}\n = = section = = \n more\n" for i in range(30)]
    path = tmp_path / "wiki.txt"
    path.write_text("".join(articles), encoding="utf-8")
    found, dropped = read_documents(str(path))
    assert [d.text for d in found] == articles
    assert dropped == {}


def test_splits_hold_every_document_once(folder):
    texts = read_texts(str(folder))
    names = [d.name for s in SPLITS for d in texts.splits[s]]
    assert len(names) == 60
    assert len(set(names)) == 60
    assert all(texts.splits[s] for s in SPLITS)


def test_copies_of_a_file_are_on_one_side(folder):
    for i in range(60):
        (folder / f"copy {i:02d}.txt").write_bytes((folder / f"{i:02d}.txt").read_bytes())
    texts = read_texts(str(folder))
    sides = {d.text: s for s in SPLITS for d in texts.splits[s]}
    assert all(sides[d.text] == s for s in SPLITS for d in texts.splits[s])


def test_the_embedded_text_is_python_on_every_machine():
    texts = read_texts("stdlib")
    train = {d.name: d.text for d in texts.splits["train"]}
    everything = sum(len(d.text) for s in SPLITS for d in texts.splits[s])
    assert everything > 5_000_000
    assert not any("site-packages" in n or "/test/" in n for n in train)
    assert sum("def " in t for t in train.values()) > len(train) / 2


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\xff\xfe" * 9, "is not UTF-8 at byte 0"),
        (b"  \n \n", "holds no text but spaces"),
        (b"too little", "too few to split"),
    ],
)
def test_texts_that_cannot_be_used(tmp_path, content, said):
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(LerayError, match=said):
        read_texts(str(tmp_path / "a.txt"))


def test_what_is_not_there(tmp_path):
    with pytest.raises(LerayError, match=r"no text at .* give a file"):
        read_texts(str(tmp_path / "none.txt"))
    with pytest.raises(LerayError, match="no text below"):
        read_texts(str(tmp_path))


def test_files_that_are_no_text_are_counted(folder):
    (folder / "bad.txt").write_bytes(b"\xff\xff")
    assert read_texts(str(folder)).dropped == {"not UTF-8": 1}


@given(st.text())
def test_identity_bytes_there_and_back(text):
    tokens = Vocabulary().encode(text)
    assert Vocabulary().decode(tokens) == text.replace("\0", "")


def test_oracle_a_byte_pair_encoding_is_that_of_tokenizers(folder):
    texts = read_texts(str(folder))
    vocabulary = vocabulary_of("bpe:512", texts.splits["train"])
    text = "document 7 ünïcödé 漢字\n"
    assert vocabulary.merges is not None
    again = Tokenizer.from_str(vocabulary.merges)
    assert vocabulary.encode(text).tolist() == again.encode(text).ids
    assert vocabulary.decode(vocabulary.encode(text)) == text
    assert SEPARATOR not in vocabulary.encode(text)
    assert len(vocabulary.encode("document 7\n")) < 11


@pytest.mark.parametrize(
    "name", ["words", "words:2", "word:90", "bpe:", "bpe:100", "bpe:99999999", "bpe:1e3", 7]
)
def test_vocabularies_that_there_are_not(name):
    with pytest.raises(LerayError, match="tokens must be bytes, bpe:N"):
        vocabulary_size(name)


@pytest.mark.parametrize("name", ["bytes", "bpe:512"])
def test_token_files_hold_the_documents(folder, tmp_path, name):
    texts = read_texts(str(folder))
    files = token_files(texts, name, tmp_path / "cache")
    for split in SPLITS:
        stream, starts = files.splits[split], files.starts[split]
        for i, d in enumerate(texts.splits[split]):
            part = stream[starts[i] : starts[i + 1]]
            assert part[0] == SEPARATOR
            assert files.vocabulary.decode(part) == d.text
            assert files.sizes[split][i] == len(d.text.encode())
    made = {p: p.stat().st_mtime_ns for p in (tmp_path / "cache").rglob("*")}
    token_files(texts, name, tmp_path / "cache")
    assert made == {p: p.stat().st_mtime_ns for p in (tmp_path / "cache").rglob("*")}


@given(
    st.integers(2, 30),
    st.integers(1, 5),
    st.integers(-3, 9),
    st.integers(0, 400),
    st.integers(0, 9),
)
def test_identity_batches_follow_from_seed_and_step(context, num, seed, length, step):
    tokens = np.arange(2 * context + 1 + length, dtype=np.uint16)
    batches = Batches(tokens, context, num, seed)
    x, y = batches.at(step)
    assert x.shape == (num, context)
    assert (y == x + 1).all()
    again = Batches(tokens, context, num, seed)
    [again.at(k) for k in range(step)]
    assert (again.at(step)[0] == x).all()


def test_a_pass_takes_every_window_once():
    tokens = np.arange(1000, dtype=np.uint16)
    batches = Batches(tokens, 10, 1, 3)
    firsts = [int(batches.at(k)[0][0, 0]) for k in range(batches.windows_in_pass)]
    assert len(set(firsts)) == batches.windows_in_pass
    assert sorted(firsts) == list(range(min(firsts), min(firsts) + 10 * len(firsts), 10))
    nexts = [int(batches.at(k + len(firsts))[0][0, 0]) for k in range(len(firsts))]
    assert nexts != firsts


def answered():
    """Documents of words that ask and answer, short ones first; the last asks twice."""
    lines = ["a ? b", "a . b ? b", "b . a ? a", "b . b ? b a ? a"]
    documents = [Document(str(i), line) for i, line in enumerate(lines)]
    vocabulary = vocabulary_of("words:9", documents)
    return vocabulary, *streams_of(vocabulary, documents)[:2], question_mark(vocabulary)


def test_words_are_tokens_and_unknown_ones_are_one():
    vocabulary, *_ = answered()
    assert vocabulary.size == 6
    assert vocabulary.decode(vocabulary.encode("b . a ?")) == "b . a ?"
    assert vocabulary.encode("c d").tolist() == [1, 1]


def test_only_what_follows_a_question_is_predicted():
    """In training by the targets, in evaluation by the owner."""
    vocabulary, stream, starts, question = answered()
    inputs, targets = Answers(stream, starts, question, 8, 64, seed=0).at(3)
    seen = set()
    for row, target in zip(inputs, targets, strict=True):
        places = (target >= 0).nonzero()[0]
        assert row[0] == SEPARATOR
        assert (row[places] == question).all()
        whole = np.append(row[: places[-1] + 1], target[places[-1]])
        seen.add((vocabulary.decode(whole), vocabulary.decode(target[places])))
    assert seen == {
        ("a ? b", "b"), ("a . b ? b", "b"), ("b . a ? a", "a"), ("b . b ? b a ? a", "b a"),
    }  # fmt: skip
    ((inputs, targets, owner),) = windows_of(stream, starts, 8, 9, question=question)
    assert (owner >= 0).sum(axis=1).tolist() == [1, 1, 1, 2]
    assert vocabulary.decode(targets[owner >= 0]) == "b b a b a"
    (_, _, short), *_ = windows_of(stream, starts, 3, 2, question=question)
    assert (short >= 0).sum(axis=1).tolist() == [1, 0]


def test_texts_that_ask_nothing():
    _, stream, starts, question = answered()
    with pytest.raises(LerayError, match="no document asks a question"):
        Answers(np.zeros_like(stream), starts, question, 8, 4, seed=0)
    silent = vocabulary_of("words:9", [Document("0", "a . b")])
    with pytest.raises(LerayError, match=r"answers are what follows '\?', for which this vocab"):
        question_mark(silent)
    assert question_mark(Vocabulary()) == ord("?")


def test_documents_come_one_by_one_while_they_grow():
    _, stream, starts, question = answered()
    growing = Answers(stream, starts, question, 8, 32, seed=0, growing=4)
    for step in range(6):
        longest = int((growing.at(step)[1] >= 0).nonzero()[1].max())
        assert longest == [2, 4, 4, 7, 7, 7][step]
    same = Answers(stream, starts, question, 8, 32, seed=0, growing=4).at(5)
    np.testing.assert_array_equal(growing.at(5), same)
    with pytest.raises(LerayError, match="a document of 8 tokens does not fit the context, 5"):
        Answers(stream, starts, question, 5, 4, seed=0)


def test_arguments_are_a_source_of_text(monkeypatch, tmp_path):
    """The report's are said in ways that the others' are not."""
    monkeypatch.setattr(text, "NUM_ARGUMENTS", {"train": 60, "tune": 20, "report": 20})
    texts = read_texts("logicstream")
    splits = dict(texts.splits)
    lengths = [len(d.text.split()) for d in splits["train"]]
    assert lengths == sorted(lengths)
    files = token_files(texts, "words:160", tmp_path)
    assert len(files.starts["train"]) == 61
    monkeypatch.setattr("leray.train.tokens._make", None)  # a second time nothing is made
    assert token_files(read_texts("logicstream"), "words:160", tmp_path).digest == files.digest
    monkeypatch.setattr(text, "NUM_ARGUMENTS", {"train": 61, "tune": 20, "report": 20})
    assert read_texts("logicstream").digest != texts.digest
    assert {d.text.split()[-1] for d in splits["tune"]} == {"yes", "no", "unknown"}
    assert not {d.text for d in splits["train"]} & {d.text for d in splits["report"]}


def test_too_few_tokens():
    with pytest.raises(LerayError, match="hold no two windows of 8"):
        Batches(np.zeros(16, dtype=np.uint8), 8, 1, 0)


@given(st.lists(st.integers(0, 40), min_size=1, max_size=6), st.integers(1, 9), st.integers(1, 4))
def test_identity_windows_predict_every_token_once(lengths, context, num):
    documents = [Document(str(i), "x" * n) for i, n in enumerate(lengths)]
    stream, starts, _ = streams_of(Vocabulary(), documents)
    counts = np.zeros(len(lengths), dtype=np.int64)
    for x, y, owner in windows_of(stream, starts, context, num):
        assert x.shape == y.shape == owner.shape
        for d in owner[owner >= 0]:
            counts[d] += 1
        assert (y[owner >= 0] == ord("x")).all()
    assert counts.tolist() == lengths
