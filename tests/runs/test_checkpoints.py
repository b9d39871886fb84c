"""Stored steps: torn files are made again, other settings refused, states do not pile up."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from run_computations import AutoregressiveChain, ResampledMean

from leray.errors import LerayError
from leray.runs import FolderStore, Key, MemoryStore, drive, no_progress
from leray.runs.computation import Finished, configuration
from leray.runs.store import _encode, _read, _Record

KEY = Key.root(7)
CHAIN = AutoregressiveChain(num_shards=2, num_steps=5)


def quietly(computation, store, key: Key = KEY):
    return drive(computation, store=store, key=key, progress=no_progress)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def zero_tail(path: Path) -> None:
    """What a power cut leaves where the size reached the disk and the content did not."""
    data = path.read_bytes()
    path.write_bytes(data[:-16] + bytes(16))


def flip_header(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[20] ^= 0x04
    path.write_bytes(data)


@pytest.mark.parametrize("damage", [truncate, empty, zero_tail, flip_header])
def test_a_torn_last_step_is_made_again(damage, tmp_path: Path) -> None:
    """Identity: damage to a shard's last file is found, and the result is the same bits."""
    expected = quietly(CHAIN, FolderStore(tmp_path))
    last = tmp_path / "chain" / "1-4.safetensors"
    whole = last.read_bytes()
    damage(last)
    np.testing.assert_array_equal(quietly(CHAIN, FolderStore(tmp_path)), expected)
    assert last.read_bytes() == whole


def test_a_torn_step_in_the_middle_begins_its_shard_again(tmp_path: Path) -> None:
    """Identity: with no state left before it the shard starts from init, to the same bits."""
    expected = quietly(CHAIN, FolderStore(tmp_path))
    truncate(tmp_path / "chain" / "0-2.safetensors")
    np.testing.assert_array_equal(quietly(CHAIN, FolderStore(tmp_path)), expected)


def test_states_are_kept_for_two_steps_only(tmp_path: Path) -> None:
    """Golden run: the files before the last two carry samples and no state."""
    quietly(CHAIN, FolderStore(tmp_path))
    with_state = [
        b"state.x" in (tmp_path / "chain" / f"0-{s}.safetensors").read_bytes() for s in range(5)
    ]
    assert with_state == [False, False, False, True, True]


def test_a_finished_shard_needs_no_state(tmp_path: Path) -> None:
    """Identity: samples alone give the result, and no step is made again."""
    store = FolderStore(tmp_path)
    expected = quietly(CHAIN, store)
    for path in (tmp_path / "chain").glob("*"):
        record = _read(path)
        assert record is not None
        path.write_bytes(_encode(_Record(record.configuration, None, record.samples)))
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "chain").glob("*")}
    np.testing.assert_array_equal(quietly(CHAIN, store), expected)
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "chain").glob("*")} == before


@pytest.mark.parametrize("folder", [False, True])
@pytest.mark.parametrize(
    ("other", "key", "said"),
    [
        (dataclasses.replace(CHAIN, rho=0.8), KEY, "rho was 0.9, now 0.8"),
        (dataclasses.replace(CHAIN, num_steps=9), KEY, "num_steps was 5, now 9"),
        (CHAIN, Key.root(8), "the seed differs"),
    ],
)
def test_other_settings_are_refused(folder: bool, other, key: Key, said: str, tmp_path: Path):
    """Golden run: the message names the setting, what it was and what it is now."""
    store = FolderStore(tmp_path) if folder else MemoryStore()
    quietly(CHAIN, store)
    with pytest.raises(LerayError, match=re.escape(said)):
        quietly(other, store, key)


def test_other_data_are_refused(tmp_path: Path) -> None:
    """Golden run: data count among the settings, by their hash."""
    data = np.arange(9.0)
    quietly(ResampledMean(data=data), FolderStore(tmp_path))
    with pytest.raises(LerayError, match=r"the data differ from those of that run \(data\)"):
        quietly(ResampledMean(data=data[::-1]), FolderStore(tmp_path))


@dataclasses.dataclass(frozen=True)
class Holder(AutoregressiveChain):
    """A chain with a field of any kind."""

    held: object = None


def test_fields_are_told_apart_by_value_type_and_shape() -> None:
    """Identity: each of these configurations differs from every other."""
    held = [
        None, 1, 1.0, "1", True, (1,), (1, 1), ((1,), 1), {"a": 1}, {"b": 1}, np.float64(1),
        np.ones(2), np.ones((2, 1)), np.ones(2, int), np.ones(2, np.float32), np.array(["a"]),
        np.array(["ab"]), np.array(["a"], dtype=object), ("a", "bc"), ("ab", "c"), CHAIN,
        json.dumps, "x" * 50, "x" * 51,
    ]  # fmt: skip
    described = [str(configuration(Holder(held=h), KEY)) for h in held]
    assert len(set(described)) == len(held)
    again = np.asfortranarray(np.arange(6.0).reshape(2, 3))
    assert configuration(Holder(held=again), KEY) == configuration(
        Holder(held=again.copy("C")), KEY
    )


def test_an_option_at_its_default_changes_no_configuration() -> None:
    """A later version's new option leaves the runs of the one before as they are."""

    def options(*fields: tuple) -> type:
        return dataclasses.make_dataclass("Options", fields)

    more = options(
        ("rate", float),
        ("new", bool, False),
        ("parts", tuple, dataclasses.field(default_factory=tuple)),
    )
    held = [options(("rate", float))(0.5), more(0.5), more(0.5, True), more(0.5, False, (1,))]
    described = [str(configuration(Holder(held=h), KEY)) for h in held]
    assert described[0] == described[1]
    assert len(set(described)) == 3


def test_a_field_that_cannot_be_compared_is_an_error() -> None:
    """Golden run: what only we can cause says which kind it was."""
    with pytest.raises(TypeError, match="holds object, which cannot be compared"):
        configuration(Holder(held=object()), KEY)


@given(
    st.dictionaries(st.text(max_size=5), st.integers() | st.floats(allow_nan=False), max_size=3),
    st.sampled_from(["?", "u1", "i2", "<i8", ">i8", "f2", "f4", "f8"]),
    st.lists(st.integers(0, 3), max_size=3),
)
def test_what_is_saved_is_loaded(tmp_path_factory, numbers: dict, dtype: str, shape: list) -> None:
    """Identity: names, plain numbers, dtypes, shapes and bits come back; arrays are read-only."""
    from leray.runs.computation import canonical_samples, canonical_state

    values = np.random.default_rng(0).integers(0, 2, shape[::-1]).astype(dtype).T
    state, samples = canonical_state({**numbers, "a.b": values}), canonical_samples({"v": values})
    store = FolderStore(tmp_path_factory.mktemp("store"))
    store.save("any", {"a": "1"}, Finished(0, 0, state, samples))
    [loaded], back = store.load("any", {"a": "1"}, 0, 1)
    assert back is not None
    array = back.pop("a.b")
    assert isinstance(array, np.ndarray)
    assert not array.flags.writeable
    assert back == numbers
    assert all(type(back[k]) is type(numbers[k]) for k in numbers)
    assert loaded["v"].dtype == array.dtype == values.dtype.newbyteorder("=")
    np.testing.assert_array_equal(loaded["v"], values, strict=dtype != ">i8")


@pytest.mark.parametrize("wrong", [[1.0], np.array(["a"]), np.array(1j), np.array(object())])
def test_samples_of_another_kind_are_an_error(wrong) -> None:
    """Golden run: what cannot be kept in safetensors is refused before anything is stored."""
    from leray.runs.computation import canonical_samples

    with pytest.raises(TypeError, match="'v'"):
        canonical_samples({"v": wrong})
