import contextlib
import io
import os
import struct
import tarfile
import zipfile

import numpy as np
import pytest
from benchmarks.mutations import damaged

from lqf.data.unpack import UnsafeArchive, unpack

HARMLESS = {"top/a.jpg": b"aaa", "top/sub/b.jpg": b"bbbb"}


def _tar(path, members, mode="w"):
    with tarfile.open(path, mode) as archive:
        for name, content in members:
            one = content if isinstance(content, tarfile.TarInfo) else tarfile.TarInfo(name)
            one.name = name
            if isinstance(content, bytes):
                one.size = len(content)
                archive.addfile(one, io.BytesIO(content))
            else:
                archive.addfile(one)
    return path


def _zip(path, members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return path


def _special(kind, link=""):
    member = tarfile.TarInfo()
    member.type, member.linkname = kind, link
    return member


def _contents(folder):
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_a_tar_is_told_by_its_content(mode, tmp_path):
    archive = _tar(tmp_path / "archive", HARMLESS.items(), mode)
    assert not unpack(archive, tmp_path / "out", limit=7)
    assert _contents(tmp_path / "out") == HARMLESS


def test_a_zip_called_tar_is_unpacked(tmp_path):
    archive = _zip(tmp_path / "archive.tar", [("top/", b""), *HARMLESS.items()])
    unpack(archive, tmp_path / "out", limit=7)
    assert _contents(tmp_path / "out") == HARMLESS


def test_a_file_that_is_no_archive_is_taken_as_it_is(tmp_path):
    (tmp_path / "list.txt").write_text("a/b.jpg")
    unpack(tmp_path / "list.txt", tmp_path / "out", limit=None)
    assert _contents(tmp_path / "out") == {"list.txt": b"a/b.jpg"}


def test_only_what_is_wanted_is_written_and_rubbish_is_counted(tmp_path):
    members = [
        *HARMLESS.items(),
        *((f"top/{name}", b"") for name in (".DS_Store", "._a.jpg", "Thumbs.db", "notes.txt")),
        ("__MACOSX/top/._a.jpg", b""),
        ("top/greg/deep/c.jpg", b""),
    ]
    counted = unpack(
        _tar(tmp_path / "a.tar", members),
        tmp_path / "out",
        limit=7,
        take=["**/*.jpg"],
        junk=["top/greg/**"],
    )
    assert _contents(tmp_path / "out") == HARMLESS
    assert counted == {
        "__MACOSX/**": 1,
        "**/.DS_Store": 1,
        "**/._*": 1,
        "**/Thumbs.db": 1,
        "top/greg/**": 1,
    }


@pytest.mark.parametrize(
    ("pattern", "names"), [("top/*.jpg", {"top/a.jpg"}), ("**", set(HARMLESS))]
)
def test_a_star_stays_within_a_folder(pattern, names, tmp_path):
    archive = _tar(tmp_path / "a.tar", HARMLESS.items())
    unpack(archive, tmp_path / "out", limit=7, take=[pattern])
    assert set(_contents(tmp_path / "out")) == names


@pytest.mark.parametrize(
    ("move", "names"),
    [({"top": "."}, {"a.jpg", "sub/b.jpg"}), ({"top/sub": "x/y"}, {"top/a.jpg", "x/y/b.jpg"})],
)
def test_folders_of_another_copy_get_the_usual_names(move, names, tmp_path):
    unpack(_tar(tmp_path / "a.tar", HARMLESS.items()), tmp_path / "out", limit=7, move=move)
    assert set(_contents(tmp_path / "out")) == names


@pytest.mark.parametrize("pack", [_tar, _zip])
@pytest.mark.parametrize("name", ["/etc/evil", "../evil", "top/../../evil", "C:/evil", "a\\..\\b"])
def test_a_name_that_leads_out_is_refused(pack, name, tmp_path):
    archive = pack(tmp_path / "archive", [("good", b"1"), (name, b"evil")])
    with pytest.raises(UnsafeArchive, match="a name that leads out of its folder"):
        unpack(archive, tmp_path / "work" / "out", limit=100)
    assert set(_contents(tmp_path)) == {"archive", "work/out/good"}


@pytest.mark.parametrize(
    "member",
    [
        _special(tarfile.SYMTYPE, "/etc/passwd"),
        _special(tarfile.SYMTYPE, "../../outside"),
        _special(tarfile.LNKTYPE, "../outside"),
        _special(tarfile.LNKTYPE, "/etc/passwd"),
        _special(tarfile.CHRTYPE),
        None,
    ],
)
def test_a_link_or_a_device_is_refused_where_a_file_is_wanted_and_never_made(member, tmp_path):
    if member is None:
        link = zipfile.ZipInfo("top/link")
        link.external_attr = 0o120777 << 16
        archive = _zip(tmp_path / "a.zip", [(link, b"../../outside"), ("top/a.jpg", b"1")])
    else:
        archive = _tar(tmp_path / "a.tar", [("top/link", member), ("top/a.jpg", b"1")])
    with pytest.raises(UnsafeArchive, match="'top/link', which is a link or a device where a file"):
        unpack(archive, tmp_path / "out", limit=100)
    assert list((tmp_path / "out").iterdir()) == []
    unpack(archive, tmp_path / "out", limit=100, take=["top/*.jpg"])
    assert [one.name for one in (tmp_path / "out" / "top").iterdir()] == ["a.jpg"]


@pytest.mark.parametrize("pack", [_tar, _zip])
def test_content_beyond_the_stated_size_is_refused(pack, tmp_path):
    archive = pack(tmp_path / "bomb", [("a", b"0" * 600), ("b", b"0" * 600)])
    unpack(archive, tmp_path / "fits", limit=1200)
    with pytest.raises(UnsafeArchive, match="expands to more than the 1,199 bytes"):
        unpack(archive, tmp_path / "out", limit=1199)


def test_a_name_that_comes_twice_counts_as_in_tar(tmp_path):
    archive = _tar(tmp_path / "a.tar", [("a", b"old"), ("a", b"new")])
    unpack(archive, tmp_path / "out", limit=6)
    assert _contents(tmp_path / "out") == {"a": b"new"}


def test_replacing_a_file_never_writes_into_the_archive_folder(tmp_path):
    (tmp_path / "list.txt").write_text("official")
    unpack(tmp_path / "list.txt", tmp_path / "out", limit=None)
    unpack(_tar(tmp_path / "a.tar", [("list.txt", b"other")]), tmp_path / "out", limit=9)
    assert (tmp_path / "list.txt").read_text() == "official"


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_a_damaged_archive_is_named(mode, tmp_path):
    archive = _tar(tmp_path / "a.tar", [("a", os.urandom(50_000))], mode)
    archive.write_bytes(archive.read_bytes()[:30_000])
    with pytest.raises(UnsafeArchive, match=r"a\.tar is damaged"):
        unpack(archive, tmp_path / "out", limit=60_000)


@pytest.mark.parametrize(
    ("mode", "place"), [("w:gz", -8), ("w:gz", -1), ("w:bz2", -4), ("w:xz", -20)]
)
def test_a_wrong_sum_behind_the_last_file_is_noticed(mode, place, tmp_path):
    archive = _tar(tmp_path / "a.tar", HARMLESS.items(), mode)
    content = bytearray(archive.read_bytes())
    content[place] ^= 1
    archive.write_bytes(content)
    with pytest.raises(UnsafeArchive, match=r"a\.tar is damaged \(.+\): download it again"):
        unpack(archive, tmp_path / "out", limit=7)


def test_what_is_no_archive_is_refused(tmp_path):
    (tmp_path / "page.tar").write_text("<html>")
    with pytest.raises(UnsafeArchive, match="neither a tar nor a zip"):
        unpack(tmp_path / "page.tar", tmp_path / "out", limit=10)


def _patched(path, place, value):
    """A zip with another 16-bit field in the local and in the central header of its first file."""
    content = bytearray(path.read_bytes())
    for mark, offset in ((b"PK\3\4", place), (b"PK\1\2", place + 2)):
        at = content.find(mark) + offset
        content[at : at + 2] = struct.pack("<H", value)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("place", "value", "sentence"),
    [(8, 9, "does not read .Deflate64, perhaps; .* with 7-Zip"), (6, 1, "locked with a password")],
)
def test_a_zip_that_python_cannot_read_is_told_what_to_do(place, value, sentence, tmp_path):
    archive = _patched(_zip(tmp_path / "a.zip", HARMLESS.items()), place, value)
    with pytest.raises(UnsafeArchive, match=rf"a\.zip is .*{sentence}"):
        unpack(archive, tmp_path / "out", limit=7)


def test_a_backslash_separates_folders_as_on_windows(tmp_path):
    archive = _zip(tmp_path / "a.zip", [(r"top\a.jpg", b"aaa"), (r"top\sub\b.jpg", b"bbbb")])
    unpack(archive, tmp_path / "out", limit=7, take=["top/**"])
    assert _contents(tmp_path / "out") == HARMLESS


@pytest.mark.parametrize("names", [["a", "a/b"], ["x" * 300], ["a/b", "a"]])
def test_names_that_no_disk_can_hold_are_told(names, tmp_path):
    archive = _tar(tmp_path / "a.tar", [(name, b"1") for name in names])
    with pytest.raises(UnsafeArchive, match=r"a\.tar is damaged"):
        unpack(archive, tmp_path / "out", limit=9)


def test_a_flood_of_empty_files_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("lqf.data.unpack._FREE", 10)
    archive = _tar(tmp_path / "a.tar", [(str(number), b"") for number in range(12)])
    with pytest.raises(UnsafeArchive, match="holds more than 10 files"):
        unpack(archive, tmp_path / "out", limit=100)


@pytest.mark.parametrize("kind", ["w", "w:gz", "w:bz2", "w:xz", "zip", "zip, lzma"])
def test_damage_anywhere_is_refused_or_harmless(kind, tmp_path):
    archive, rng = tmp_path / "archive", np.random.default_rng(0)
    if kind.startswith("zip"):
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_LZMA if "lzma" in kind else 8) as bundle:
            for name, content in HARMLESS.items():
                bundle.writestr(name, content * 200)
    else:
        _tar(archive, [(name, content * 200) for name, content in HARMLESS.items()], kind)
    whole = archive.read_bytes()
    for number in range(60):
        archive.write_bytes(damaged(whole, rng))
        with contextlib.suppress(UnsafeArchive):
            unpack(archive, tmp_path / "out" / str(number), limit=3000)
    assert {path.name for path in tmp_path.iterdir()} <= {"archive", "out"}
