"""A server on the loopback interface that serves files and fails on demand."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

LONGEST = 120  # seconds after which a forgotten server ends by itself


@dataclass
class FaultServer:
    """What is served and how it fails.

    A fault is used up by one request: ``drop`` breaks off in the middle, ``stall`` sends nothing and
    breaks off, ``wrong`` sends other bytes of the same length, a number is an HTTP status, ``page``
    answers with a web page, ``change`` serves `newer` from now on. One in `always` never ends.
    """

    files: dict[str, bytes | Path] = field(default_factory=dict)
    newer: bytes = b""
    faults: dict[str, list[str | int]] = field(default_factory=lambda: defaultdict(list))
    always: dict[str, str | int] = field(default_factory=dict)
    ranges: bool = True
    tag: str | None = '"version-1"'
    requests: list[tuple[str, str | None]] = field(default_factory=list)
    address: str = ""

    def url(self, name: str) -> str:
        return f"{self.address}/{name}"

    def asked(self, name: str) -> list[str | None]:
        """The ranges that were asked for."""
        return [span for path, span in self.requests if path == name]


@contextmanager
def fault_server() -> Iterator[FaultServer]:
    state = FaultServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            name = self.path.lstrip("/").partition("?")[0]
            span = self.headers.get("Range")
            state.requests.append((name, span))
            pending = state.faults[name]
            fault = pending.pop(0) if pending else state.always.get(name)
            self.close_connection = True
            if isinstance(fault, int) or name not in state.files:
                return self.answer(fault if isinstance(fault, int) else 404, b"no")
            if fault == "page":
                return self.answer(200, b"<html>please log in</html>")
            if fault == "change":
                state.files[name], state.tag = state.newer, '"version-2"'
            content = state.files[name]
            data = content if isinstance(content, bytes) else content.read_bytes()
            start = 0
            fresh = self.headers.get("If-Range") in {None, state.tag}
            if state.ranges and span and fresh:
                start = int(span.removeprefix("bytes=").partition("-")[0])
                if start >= len(data):
                    return self.answer(416, b"", {"Content-Range": f"bytes */{len(data)}"})
            body = data[start:]
            if fault == "wrong":
                body = bytes(255 - byte for byte in body)
            headers = {"Content-Length": str(len(body))}
            if state.ranges:
                headers["Accept-Ranges"] = "bytes"
            if state.tag:
                headers["ETag"] = state.tag
            if start:
                headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
            cut = {"drop": len(body) // 2, "stall": 0}.get(str(fault), len(body))
            self.answer(206 if start else 200, body[:cut], headers)

        def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for key, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
                self.send_header(key, value)
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    state.address = f"http://127.0.0.1:{server.server_port}"
    guard = threading.Timer(LONGEST, server.shutdown)
    guard.daemon = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    guard.start()
    try:
        yield state
    finally:
        guard.cancel()
        server.shutdown()
        server.server_close()
        thread.join(timeout=5)
