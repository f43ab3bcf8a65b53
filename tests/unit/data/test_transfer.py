import hashlib
import os

import pytest
from fault_server import fault_server

from lqf.data.archives import verify
from lqf.data.published import File
from lqf.data.transfer import NotObtained, download

CONTENT = os.urandom(300_000)


@pytest.fixture
def server():
    with fault_server() as running:
        yield running


@pytest.fixture(autouse=True)
def pauses(monkeypatch):
    """The pauses that would have been made."""
    made = []
    monkeypatch.setattr("lqf.data.transfer.time.sleep", made.append)
    return made


def _file(server, *names, known=True, content=CONTENT, unpacked=None):
    return File(
        name="data.tar",
        bytes=len(content) if known else None,
        sha256=hashlib.sha256(content).hexdigest() if known else None,
        unpacked=unpacked,
        urls=tuple(server.url(name) for name in names),
        dead={"http://old.example/data.tar": "gone since 2020"},
    )


def _download(file, folder, attempts=3):
    return download(file, folder, attempts=attempts)


def _names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_arrives_under_its_name_and_readable_by_others(server, tmp_path):
    server.files["a"] = CONTENT
    path, url = _download(_file(server, "a"), tmp_path)
    assert path.read_bytes() == CONTENT
    assert url == server.url("a")
    assert _names(tmp_path) == ["data.tar"]
    umask = os.umask(0)
    os.umask(umask)
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask


@pytest.mark.parametrize("known", [True, False])
def test_a_break_is_resumed_where_it_was(server, tmp_path, pauses, known):
    server.files["a"] = CONTENT
    server.faults["a"] = ["drop", "drop"]
    path, _ = _download(_file(server, "a", known=known), tmp_path)
    assert path.read_bytes() == CONTENT
    assert server.asked("a") == [None, "bytes=150000-", "bytes=225000-"]
    assert pauses == [], "each request brought more, so there was nothing to wait for"


def test_a_server_without_ranges_sends_it_all_again(server, tmp_path):
    server.files["a"], server.ranges = CONTENT, False
    server.faults["a"] = ["drop"]
    path, _ = _download(_file(server, "a"), tmp_path)
    assert path.read_bytes() == CONTENT
    assert len(server.asked("a")) == 2


def test_a_file_that_changed_between_two_requests_is_fetched_anew(server, tmp_path):
    server.files["a"] = CONTENT
    server.faults["a"] = ["drop", "change"]
    server.newer = os.urandom(len(CONTENT))
    path, _ = _download(_file(server, "a", known=False), tmp_path)
    assert path.read_bytes() == server.newer


def test_pauses_grow_while_a_server_is_down(server, tmp_path, pauses):
    server.files["a"] = CONTENT
    server.faults["a"] = [500, 503, 429, "stall"]
    path, _ = _download(_file(server, "a"), tmp_path, attempts=5)
    assert path.read_bytes() == CONTENT
    assert pauses == [1, 2, 3, 4]


def test_a_missing_file_sends_us_to_the_next_mirror_at_once(server, tmp_path, pauses):
    server.files["b"] = CONTENT
    path, url = _download(_file(server, "a", "b"), tmp_path)
    assert path.read_bytes() == CONTENT
    assert url == server.url("b")
    assert server.asked("a") == [None]
    assert pauses == []


def test_the_next_mirror_continues_what_the_first_one_began(server, tmp_path):
    server.files.update(a=CONTENT, b=CONTENT)
    server.faults["a"] = ["drop", 404]
    path, _ = _download(_file(server, "a", "b"), tmp_path)
    assert path.read_bytes() == CONTENT
    assert server.asked("b") == ["bytes=150000-"]


def test_a_later_run_continues_what_an_earlier_one_began(server, tmp_path):
    server.files["a"] = CONTENT
    server.faults["a"] = ["drop", 404]
    with pytest.raises(NotObtained):
        _download(_file(server, "a"), tmp_path)
    assert _names(tmp_path) == ["data.tar.part"]
    path, _ = _download(_file(server, "a"), tmp_path)
    assert path.read_bytes() == CONTENT
    assert server.asked("a")[-1] == "bytes=150000-"
    assert _names(tmp_path) == ["data.tar"]


@pytest.mark.parametrize("beginning", [b"x" * 1000, b"x" * len(CONTENT), b"x" * 400_000])
def test_a_spoilt_beginning_is_thrown_away_and_fetched_anew(server, tmp_path, beginning):
    server.files["a"] = CONTENT
    (tmp_path / "data.tar.part").write_bytes(beginning)
    path, _ = _download(_file(server, "a"), tmp_path)
    assert path.read_bytes() == CONTENT
    assert _names(tmp_path) == ["data.tar"]


def test_wrong_bytes_are_refused_with_both_digests_and_leave_nothing(server, tmp_path):
    server.files["a"] = CONTENT
    server.always["a"] = "wrong"
    wrong = hashlib.sha256(bytes(255 - byte for byte in CONTENT)).hexdigest()
    right = hashlib.sha256(CONTENT).hexdigest()
    with pytest.raises(NotObtained, match=f"has sha256 {wrong}, but the catalogue says {right}"):
        _download(_file(server, "a"), tmp_path)
    assert len(server.asked("a")) == 1
    assert _names(tmp_path) == []


def test_wrong_bytes_send_us_to_the_next_mirror(server, tmp_path):
    server.files.update(a=CONTENT, b=CONTENT)
    server.always["a"] = "wrong"
    assert _download(_file(server, "a", "b"), tmp_path)[1] == server.url("b")


def test_another_size_is_refused_before_the_download(server, tmp_path):
    server.files["a"] = CONTENT[:-1]
    with pytest.raises(NotObtained, match=r"offers 299,999 bytes, but the catalogue says 300,000"):
        _download(_file(server, "a"), tmp_path)
    assert _names(tmp_path) == []


def test_a_page_in_place_of_an_unpinned_archive_is_refused(server, tmp_path):
    server.files["a"] = CONTENT
    server.always["a"] = "page"
    with pytest.raises(NotObtained, match="neither a tar nor a zip archive"):
        _download(_file(server, "a", known=False, unpacked=1000), tmp_path)
    assert _names(tmp_path) == []


def test_the_failure_names_every_mirror_with_its_reason(server, tmp_path):
    server.always["b"] = 500
    with pytest.raises(NotObtained) as failure:
        _download(_file(server, "a", "b"), tmp_path, attempts=2)
    text = str(failure.value)
    assert f"{server.url('a')}: HTTP 404" in text
    assert f"{server.url('b')}: HTTP 500" in text
    assert "http://old.example/data.tar: not tried, gone since 2020" in text
    assert len(server.asked("b")) == 2


def test_md5_serves_where_there_is_no_sha256(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    file = File("file", (), md5=hashlib.md5(b"abc").hexdigest())
    verify(path, file, "here")
    path.write_bytes(b"abd")
    with pytest.raises(
        ValueError, match=r"has md5 4911e516e5aa21d327512e0c8b197616, but the .* 900"
    ):
        verify(path, file, "here")
