"""Download one file: resumed after a break, tried again with growing pauses, mirror after mirror.

What has arrived is kept in NAME.part, and a further attempt or run asks for the rest. A file gets its
name only after it is verified.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterator
from pathlib import Path

import requests
import urllib3
from tqdm import tqdm

from lqf.data.archives import WrongFile, verify
from lqf.data.published import File

_LOG = logging.getLogger(__name__)
_CHUNK = 1 << 20
_TIMEOUT = (20.0, 60.0)
_LONGEST_PAUSE = 10
# The bytes of the archive itself: a client that undoes a content encoding stores other ones. Some
# servers turn the usual names of scripts away.
_HEADERS = {"User-Agent": "Mozilla/5.0 (compatible; lqf)", "Accept-Encoding": "identity"}
_WORTH_ANOTHER_TRY = {408, 425, 429}


class NotObtained(ValueError):
    """No mirror gave the file; the message has a reason for each."""


class _Gone(Exception):
    """A mirror does not have the file, or another one: trying again is pointless."""


class _Broken(requests.RequestException):
    """An attempt failed in a way that another one may not."""


def download(file: File, folder: Path, attempts: int = 6) -> tuple[Path, str]:
    """Download and verify a file; its addresses are tried in their order.

    The pauses between the attempts at an address grow by a second each.

    Returns:
        The file, and the address that gave it.

    Raises:
        NotObtained: If no address gave it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    arriving = _Arriving(file, folder / f"{file.name}.part")
    reasons = []
    for url in file.urls:
        for attempt in range(1, max(1, attempts) + 1):
            try:
                arriving.fetch(url)
            except _Gone as error:
                reason = f"{url}: {error}"
                break
            except requests.RequestException as error:
                reason = f"{url}: {error}"
                if attempt < attempts:
                    time.sleep(min(attempt, _LONGEST_PAUSE))
            else:
                return arriving.part.replace(folder / file.name), url
        reasons.append(reason)
        _LOG.warning("%s", reason)
    reasons += [f"{url}: not tried, {why}" for url, why in file.dead.items()]
    raise NotObtained(f"no mirror gave {file.name} ({'; '.join(reasons) or 'it has no address'})")


class _Arriving:
    """A file of which a part may be there from an earlier attempt or an earlier run."""

    def __init__(self, file: File, part: Path) -> None:
        self.file, self.part = file, part
        self._tag: str | None = None
        self._total: int | None = None
        if file.digest is None:
            # Nothing would tell that an old beginning and a new end belong to different versions.
            part.unlink(missing_ok=True)

    # Get what is missing, and verify the whole.
    def fetch(self, url: str) -> None:
        resumed = False
        while True:
            before = self._size()
            resumed = resumed or before > 0
            if before and before == self.file.bytes:
                break
            try:
                self._receive(url, before)
                break
            except _Broken:
                # As long as each request brings more there is no reason to pause.
                if self._size() <= before:
                    raise
        try:
            verify(self.part, self.file, "the server")
        except WrongFile as error:
            self.part.unlink()
            if resumed:
                raise _Broken(f"{error} It was resumed, so it is fetched anew.") from None
            # The same bytes would come again and again.
            raise _Gone(str(error)) from None

    def _size(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    def _receive(self, url: str, start: int) -> None:
        headers = dict(_HEADERS)
        if start:
            headers["Range"] = f"bytes={start}-"
            if self.file.digest is None and self._tag:
                headers["If-Range"] = self._tag
        with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT) as answer:
            start = self._accept(answer, start)
            mode = "ab" if start else "wb"
            bar = tqdm(
                total=self._total, initial=start, desc=self.file.name, unit="B", unit_scale=True
            )
            with self.part.open(mode) as out, bar:
                for chunk in _body(answer):
                    out.write(chunk)
                    bar.update(len(chunk))
                    if self.file.bytes is not None and out.tell() > self.file.bytes:
                        break

    # Return the byte at which the body begins.
    def _accept(self, answer: requests.Response, start: int) -> int:
        status = answer.status_code
        if status == 416:
            self.part.unlink(missing_ok=True)
            raise _Broken("the part that was already there is not a beginning of the file.")
        if status >= 500 or status in _WORTH_ANOTHER_TRY:
            raise _Broken(f"HTTP {status} {answer.reason}.")
        if status not in {200, 206}:
            raise _Gone(f"HTTP {status} {answer.reason}.")
        if status == 206:
            found = re.match(r"bytes (\d+)-", answer.headers.get("Content-Range", ""))
            if found is None or int(found[1]) != start:
                self.part.unlink(missing_ok=True)
                raise _Broken("the server sent another range than it was asked for.")
        begin = start if status == 206 else 0
        self._total = wanted = self.file.bytes
        if (length := answer.headers.get("Content-Length")) is not None:
            self._total = begin + int(length)
            if wanted is not None and self._total != wanted:
                raise _Gone(f"offers {self._total:,} bytes, but the catalogue says {wanted:,}.")
        tag = answer.headers.get("ETag")
        self._tag = tag if tag and not tag.startswith("W/") else None
        if begin == 0 and self.file.digest is None and self._tag is None:
            # Without digest and tag the next request could not tell a changed file.
            self._tag = answer.headers.get("Last-Modified")
        return begin


def _body(answer: requests.Response) -> Iterator[bytes]:
    try:
        yield from answer.raw.stream(_CHUNK, decode_content=False)
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise _Broken(f"the connection broke ({type(error).__name__}).") from None
