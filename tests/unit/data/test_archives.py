import dataclasses
import hashlib
import io
import json
import tarfile

import pytest
from fault_server import fault_server

from lqf.data.archives import MANIFEST, local_folders, obtain, pin, pinned, read_manifest
from lqf.data.published import File, Weights, read


def _archive(text):
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        archive.addfile(tarfile.TarInfo(text))
    return data.getvalue()


CONTENTS = {"a.tar": _archive("a"), "b.tar": _archive("b"), "c.tar": _archive("c")}


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr("lqf.data.transfer.time.sleep", lambda _: None)
    with fault_server() as running:
        running.files.update(CONTENTS)
        yield running


def _file(name, *urls, known=True):
    digest = hashlib.sha256(CONTENTS[name]).hexdigest() if known else None
    size = len(CONTENTS[name]) if known else None
    return File(name, urls, bytes=size, sha256=digest, unpacked=10)


def _dataset(*choices):
    return dataclasses.replace(read().get("mit67"), name="mine", parts={"images": choices})


def _obtain(dataset, tmp_path, **options):
    lock = tmp_path / "datasets.lock.json"
    return obtain(dataset, tmp_path / "mine", lock=lock, attempts=1, **options)


def test_the_manifest_comes_last_and_names_every_file(server, tmp_path):
    manifest = _obtain(_dataset((_file("a.tar", server.url("a.tar")),)), tmp_path)
    entry = json.loads(manifest.read_text())["files"][0]
    assert entry["sha256"] == hashlib.sha256(CONTENTS["a.tar"]).hexdigest()
    assert entry["from"] == server.url("a.tar")
    [(path, _)] = read_manifest(tmp_path / "mine")
    assert path.read_bytes() == CONTENTS["a.tar"]


def test_without_all_files_there_is_no_manifest(server, tmp_path):
    files = _file("a.tar", server.url("a.tar")), _file("b.tar", server.url("gone"))
    with pytest.raises(
        ValueError, match=r"part 'images' of data set 'mine' cannot be had .*HTTP 404"
    ):
        _obtain(_dataset(files), tmp_path)
    assert sorted(path.name for path in (tmp_path / "mine").iterdir()) == ["a.tar"]
    server.requests.clear()
    files = files[0], _file("b.tar", server.url("b.tar"))
    _obtain(_dataset(files), tmp_path)
    assert server.asked("a.tar") == [], "what was downloaded before is used"


def test_the_next_choice_is_taken_if_the_first_is_gone(server, tmp_path):
    first = _file("a.tar", server.url("gone"))
    second = _file("b.tar", server.url("b.tar")), _file("c.tar", server.url("c.tar"))
    _obtain(_dataset((first,), second), tmp_path)
    assert [entry["name"] for _, entry in read_manifest(tmp_path / "mine")] == ["b.tar", "c.tar"]


@pytest.mark.parametrize("place", ["shared", "shared/mine"])
def test_archives_that_are_on_disk_are_used_where_they_are(place, tmp_path, monkeypatch):
    folder = tmp_path / place
    folder.mkdir(parents=True)
    (folder / "a.tar").write_bytes(CONTENTS["a.tar"])
    monkeypatch.setenv("LQF_DATA", str(tmp_path / "shared"))
    _obtain(_dataset((_file("a.tar"),)), tmp_path, local=local_folders(), offline=True)
    [(path, entry)] = read_manifest(tmp_path / "mine")
    assert path == folder / "a.tar"
    assert entry["from"] == "local"


def test_a_wrong_copy_on_disk_is_refused_and_not_replaced(server, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "a.tar").write_bytes(CONTENTS["b.tar"])
    with pytest.raises(ValueError, match=r"has sha256 .*, but the catalogue says .* Replace"):
        _obtain(_dataset((_file("a.tar", server.url("a.tar")),)), tmp_path)
    assert server.requests == []


def test_a_file_of_the_same_name_in_a_common_folder_is_passed_over(server, tmp_path, caplog):
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "a.tar").write_bytes(CONTENTS["b.tar"])
    dataset = _dataset((_file("a.tar", server.url("a.tar")),))
    _obtain(dataset, tmp_path, local=[tmp_path / "shared"])
    assert read_manifest(tmp_path / "mine")[0][1]["from"] == server.url("a.tar")
    assert "It is not used." in caplog.text


def test_what_cannot_be_had_is_told_with_what_to_put_where(tmp_path):
    dataset = _dataset((_file("a.tar"),), (_file("b.tar"), _file("c.tar", known=False)))
    with pytest.raises(
        ValueError, match=r"put a\.tar \(sha256 .*\) or b\.tar .* and c\.tar into"
    ) as no:
        _obtain(dataset, tmp_path)
    assert str(tmp_path / "mine") in str(no.value)
    assert "LQF_DATA" in str(no.value)


def test_offline_nothing_is_asked_for(server, tmp_path):
    with pytest.raises(ValueError, match="downloads are switched off"):
        _obtain(_dataset((_file("a.tar", server.url("a.tar")),)), tmp_path, offline=True)
    assert server.requests == []


def test_an_unknown_digest_is_pinned_and_required_afterwards(server, tmp_path):
    dataset = _dataset((_file("a.tar", server.url("a.tar"), known=False),))
    _obtain(dataset, tmp_path)
    pinned = json.loads((tmp_path / "datasets.lock.json").read_text())["mine/a.tar"]
    assert pinned["sha256"] == hashlib.sha256(CONTENTS["a.tar"]).hexdigest()
    assert pinned["bytes"] == len(CONTENTS["a.tar"])
    (tmp_path / "mine" / "a.tar").unlink()
    server.files["a.tar"] = CONTENTS["b.tar"]
    with pytest.raises(ValueError, match=f"but the catalogue says {pinned['sha256']}"):
        _obtain(dataset, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["datasets.lock.json", "mine"]


def test_a_file_that_changes_after_its_verification_is_noticed(server, tmp_path):
    _obtain(_dataset((_file("a.tar", server.url("a.tar")),)), tmp_path)
    (tmp_path / "mine" / "a.tar").write_bytes(b"short")
    with pytest.raises(ValueError, match="is missing or has changed"):
        read_manifest(tmp_path / "mine")
    (tmp_path / "mine" / MANIFEST).unlink()
    with pytest.raises(ValueError, match="there are no archives in"):
        read_manifest(tmp_path / "mine")


def test_a_folder_that_does_not_exist_is_named(monkeypatch):
    monkeypatch.setenv("LQF_DATA", "/no/such/folder")
    with pytest.raises(ValueError, match=r"/no/such/folder .*LQF_DATA"):
        local_folders()


def test_a_broken_lock_file_is_named(tmp_path):
    (tmp_path / "datasets.lock.json").write_text("{")
    with pytest.raises(ValueError, match="is not a lock file"):
        pinned(_file("a.tar", known=False), "mine/a.tar", tmp_path / "datasets.lock.json")


def test_a_digest_is_noted_where_folders_cannot_be_locked(tmp_path, no_locks, caplog):
    pin("mine/a.tar", tmp_path / "datasets.lock.json", {"bytes": 1, "sha256": "ab"})

    assert "knows no locks" in caplog.text
    assert "mine/a.tar" in (tmp_path / "datasets.lock.json").read_text()


def test_published_weights_are_obtained_like_archives(server, tmp_path):
    file = _file("a.tar", server.url("a.tar"), known=False)
    prefix = hashlib.sha256(CONTENTS["a.tar"]).hexdigest()[:8]
    weights = Weights("net.v1", "A net", "", None, dataclasses.replace(file, prefix=prefix))
    _obtain(weights, tmp_path)
    [(path, entry)] = read_manifest(tmp_path / "mine")
    assert path.read_bytes() == CONTENTS["a.tar"]
    assert entry["sha256"].startswith(prefix)
    assert len(entry["sha256"]) == 64
    assert not (tmp_path / "datasets.lock.json").exists(), "the beginning of the digest is enough"


def test_weights_that_cannot_be_had_say_what_to_put_where(server, tmp_path):
    file = dataclasses.replace(_file("a.tar", server.url("a.tar"), known=False), prefix="0" * 8)
    weights = Weights("net.v1", "A net", "", None, file)
    with pytest.raises(
        ValueError, match=r"weights 'net.v1' cannot be had .*says 00000000….*put a"
    ) as e:
        _obtain(weights, tmp_path)
    assert "a folder that LQF_DATA names" in str(e.value)
    folder = tmp_path / "net.v1"
    folder.mkdir()
    (folder / "a.tar").write_bytes(b"another file")
    with pytest.raises(ValueError, match=r"a.tar .*sha256 .*says 00000000….* Replace this copy"):
        obtain(weights, folder, lock=tmp_path / "x", offline=True)
