"""Archives: the same bytes each time, and whatever a stranger packs stays in its folder."""

from __future__ import annotations

import copy
import hashlib
import io
import stat
import string
import struct
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leray.errors import LerayError
from leray.runs.bundle import Limits, manifest_text, printable, read_archive, write_archive

SMALL = Limits(files=5, file_bytes=4 << 20, total_bytes=6 << 20, ratio=100.0)
Entry = tuple[str | zipfile.ZipInfo, bytes]


def forged(path: Path, entries: list[Entry], *, manifest: str | None = None) -> Path:
    """An archive of anything, by default with a manifest that vouches for it."""
    names = [e if isinstance(e, str) else e.filename for e, _ in entries]
    digests = {n: hashlib.sha256(c).hexdigest() for n, (_, c) in zip(names, entries, strict=True)}
    text = manifest_text(digests) if manifest is None else manifest
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in [*entries, ("MANIFEST.sha256", text.encode())]:
            archive.writestr(name, content)
    return path


def refused(path: Path, into: Path, why: str, limits: Limits = SMALL) -> None:
    with pytest.raises(LerayError, match=why) as error:
        read_archive(path, into, limits=limits)
    assert "\n" not in str(error.value)
    assert str(error.value).isprintable()


NAMES = st.lists(
    st.text(string.ascii_letters + " .-_é", min_size=1, max_size=12).filter(
        lambda n: n not in (".", "..")
    ),
    min_size=1,
    max_size=3,
).map("/".join)


@given(
    parts=st.dictionaries(
        NAMES.filter(lambda n: n != "MANIFEST.sha256"), st.binary(max_size=200), max_size=4
    )
)
def test_what_was_packed_comes_out(
    tmp_path_factory: pytest.TempPathFactory, parts: dict[str, bytes]
) -> None:
    """Identity: names and contents, unless two names would be one file somewhere."""
    folder = tmp_path_factory.mktemp("pack")
    folded = [n.casefold() for n in parts]
    clash = len(set(folded)) < len(folded) or any(
        a.startswith(f"{b}/") for a in folded for b in folded
    )
    if clash:
        with pytest.raises(LerayError, match="two files have one name"):
            write_archive(folder / "a.zip", parts)
        return
    write_archive(folder / "a.zip", parts)
    write_archive(folder / "b.zip", dict(reversed(parts.items())))
    assert (folder / "a.zip").read_bytes() == (folder / "b.zip").read_bytes()
    digests = read_archive(folder / "a.zip", folder / "out")
    assert {n: (folder / "out" / n).read_bytes() for n in digests} == parts


def test_files_are_streamed_and_well_packed_ones_still_read(tmp_path: Path) -> None:
    """Golden run: 3 MB of one letter would be refused for its ratio, so it is stored."""
    (tmp_path / "letters").write_bytes(b"a" * (3 << 20))
    write_archive(tmp_path / "a.zip", {"letters": tmp_path / "letters", "x/y": b"1"}, limits=SMALL)
    read_archive(tmp_path / "a.zip", tmp_path / "out", limits=SMALL)
    assert (tmp_path / "out" / "letters").read_bytes() == (tmp_path / "letters").read_bytes()
    assert stat.S_IMODE((tmp_path / "out" / "letters").stat().st_mode) & 0o111 == 0


@pytest.mark.parametrize(
    "name",
    [
        "/etc/passwd", "../x", "a/../../x", "a/./b", "a//b", "./a", "..\\x", "C:x", "a/..", "..",
        "\x1b[31m", "a\nb", "\u202egpj.exe", "n" * 201,
    ],
)  # fmt: skip
def test_no_name_leaves_the_folder(name: str, tmp_path: Path) -> None:
    """Golden run: absolute, upward, of another system, invisible, endless."""
    inside = tmp_path / "deep" / "out"
    refused(forged(tmp_path / "a.zip", [(name, b"x")]), inside, "could leave the folder")
    assert not list(tmp_path.rglob("x"))
    with pytest.raises(LerayError, match="could leave the folder"):
        write_archive(tmp_path / "b.zip", {name: b"x"})


@pytest.mark.parametrize(
    "kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFDIR, stat.S_IFSOCK]
)
def test_only_regular_files(kind: int, tmp_path: Path) -> None:
    """Golden run: a link, devices, a pipe, a folder and a socket."""
    info = zipfile.ZipInfo("run/result.json")
    info.external_attr = (kind | 0o777) << 16
    refused(forged(tmp_path / "a.zip", [(info, b"/etc")]), tmp_path / "out", "only files")


def test_folders_by_name_are_refused(tmp_path: Path) -> None:
    """Golden run: an entry that ends in a slash."""
    refused(forged(tmp_path / "a.zip", [("run/", b"")]), tmp_path / "out", "only files")


def test_two_names_for_one_file(tmp_path: Path) -> None:
    """Golden run: differing in case only, and a file that is also a folder."""
    for k, names in enumerate([("a", "A"), ("a", "a/b")]):
        entries: list[Entry] = [(n, b"x") for n in names]
        refused(forged(tmp_path / f"{k}.zip", entries), tmp_path / f"{k}", "one name")


def test_limits_of_size_number_and_ratio(tmp_path: Path) -> None:
    """Golden run: each limit by itself; a bomb is refused before it is unpacked."""

    def noise(size: int) -> bytes:
        return hashlib.shake_256(b"noise").digest(size)

    many: list[Entry] = [(str(k), b"") for k in range(6)]
    cases: list[tuple[list[Entry], str]] = [
        (many, "files"),
        ([("a", noise((4 << 20) + 1))], "allowed: 4,194,304 a file"),
        ([(str(k), noise(3 << 20)) for k in range(3)], "all files have 9,4"),
        ([("bomb", bytes(3 << 20))], "more than 100 times"),
    ]
    for k, (entries, why) in enumerate(cases):
        refused(forged(tmp_path / f"{k}.zip", entries), tmp_path / f"{k}", why)
        assert not list(tmp_path.glob(f"{k}/*"))


def test_a_file_that_is_longer_than_it_says(tmp_path: Path) -> None:
    """Golden run: the size in both headers is forged; what comes out is never longer."""
    path = forged(tmp_path / "a.zip", [("a", bytes(50_000))])
    data = path.read_bytes().replace(struct.pack("<L", 50_000), struct.pack("<L", 10))
    path.write_bytes(data)
    refused(path, tmp_path / "out", "refused")
    assert all(p.stat().st_size <= 10 for p in tmp_path.glob("out/a"))


def test_files_that_share_their_bytes(tmp_path: Path) -> None:
    """Golden run: three entries of the list point at one file (a bomb without nesting)."""
    content = hashlib.shake_256(b"x").digest(100_000)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a", content)
        for name in ("b", "c"):
            twin = copy.copy(archive.filelist[0])
            twin.filename = name
            archive.filelist.append(twin)
        archive.writestr("MANIFEST.sha256", b"")
    assert (tmp_path / "a.zip").stat().st_size < 101_000
    refused(tmp_path / "a.zip", tmp_path / "out", "its files overlap")


@pytest.mark.parametrize("where", [0, 40, -1])
def test_one_changed_byte_is_found(where: int, tmp_path: Path) -> None:
    """Golden run: in the file, in its header and in the list."""
    content = hashlib.shake_256(b"x").digest(1000)
    write_archive(tmp_path / "a.zip", {"run/samples.parquet": content})
    data = bytearray((tmp_path / "a.zip").read_bytes())
    place = data.index(content) + 500 if where == 0 else where
    data[place] ^= 1
    (tmp_path / "a.zip").write_bytes(data)
    refused(tmp_path / "a.zip", tmp_path / "out", "refused")


def test_contents_and_manifest_must_agree(tmp_path: Path) -> None:
    """Golden run: a changed file, one too many, one too few, nonsense, and no manifest."""
    digest = hashlib.sha256(b"x").hexdigest()
    cases = [
        (f"{'0' * 64}  a\n", "'a' is not what MANIFEST.sha256 says"),
        ("", "does not name the files"),
        (f"{digest}  a\n{digest}  b\n", "does not name the files"),
        ("nonsense\n", "does not name the files"),
        (f"{digest}  a\n{digest}  a\n", "does not name the files"),
    ]
    for k, (manifest, why) in enumerate(cases):
        path = forged(tmp_path / f"{k}.zip", [("a", b"x")], manifest=manifest)
        refused(path, tmp_path / f"{k}", why)
    with zipfile.ZipFile(tmp_path / "none.zip", "w") as archive:
        archive.writestr("a", b"x")
    refused(tmp_path / "none.zip", tmp_path / "none", "has no MANIFEST")


def test_encrypted_and_oddly_packed_files_are_refused(tmp_path: Path) -> None:
    """Golden run: the flag of encryption, and LZMA."""
    path = forged(tmp_path / "a.zip", [("a", b"x")])
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\1\2") + 8] |= 1
    path.write_bytes(data)
    refused(path, tmp_path / "a", "encrypted")
    with zipfile.ZipFile(tmp_path / "b.zip", "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("a", b"x")
    refused(tmp_path / "b.zip", tmp_path / "b", "not allowed")


@given(noise=st.binary(max_size=300))
def test_noise_is_no_archive(tmp_path_factory: pytest.TempPathFactory, noise: bytes) -> None:
    """Identity: any bytes, alone and after a true beginning, give one line."""
    folder = tmp_path_factory.mktemp("noise")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a", b"x")
    for k, data in enumerate([noise, buffer.getvalue() + noise + b"!", b"PK\5\6" + noise]):
        (folder / f"{k}.zip").write_bytes(data)
        refused(folder / f"{k}.zip", folder / f"{k}", "refused")


def test_what_is_no_file_is_one_line(tmp_path: Path) -> None:
    """Golden run: missing, and a folder."""
    refused(tmp_path / "none.zip", tmp_path / "out", "No such file")
    refused(tmp_path, tmp_path / "out", "directory")


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    """Golden run: an archive that exists stays as it is, and nothing is left beside it."""
    (tmp_path / "a.zip").write_bytes(b"mine")
    with pytest.raises(LerayError, match="exists already"):
        write_archive(tmp_path / "a.zip", {"a": b"x"})
    assert [p.name for p in tmp_path.iterdir()] == ["a.zip"]
    assert (tmp_path / "a.zip").read_bytes() == b"mine"


@given(st.text(max_size=50))
def test_strangers_texts_are_one_printable_line(text: str) -> None:
    """Identity: printable, of bounded length, and unchanged where there is nothing to change."""
    shown = printable(text, 30)
    assert shown.isprintable()
    assert len(shown) <= 30
    as_it_is = len(text) <= 30 and text.isprintable() and text == " ".join(text.split())
    assert shown == text or not as_it_is
