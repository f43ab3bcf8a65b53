"""A headless Chromium, spoken to by its DevTools protocol."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from tornado.httpclient import AsyncHTTPClient
from tornado.websocket import WebSocketClientConnection, websocket_connect

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

# The least contrast of a text with what is behind it (WCAG 2.1, 1.4.3), and which text that is.
CONTRAST = """(() => {
  const numbers = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = (colour) => {
    const [r, g, b] = colour.map((x) => (x /= 255) <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    for (; element; element = element.parentElement) {
      const [r, g, b, opaque = 1] = numbers(getComputedStyle(element).backgroundColor);
      if (opaque > 0) return [r, g, b];
    }
    return [255, 255, 255];
  };
  let least = [21, ""];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const element = walk.currentNode.parentElement;
    if (!walk.currentNode.textContent.trim() || element.closest("script, style, option")) continue;
    const pair = [numbers(getComputedStyle(element).color).slice(0, 3), behind(element)].map(light);
    const contrast = (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05);
    if (contrast < least[0]) least = [contrast, walk.currentNode.textContent.trim()];
  }
  return least;
})()"""


class Page:
    """A page of the browser."""

    def __init__(self, socket: WebSocketClientConnection) -> None:
        self._socket, self._number = socket, 0
        self.events: list[dict[str, Any]] = []

    async def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Calls a method of the protocol; returns its result."""
        self._number += 1
        call = {"id": self._number, "method": method, "params": parameters}
        await self._socket.write_message(json.dumps(call))
        while (answer := await self._next()).get("id") != self._number:
            self.events.append(answer)
        assert "error" not in answer, answer
        return dict(answer["result"])

    async def _next(self) -> dict[str, Any]:
        message = await self._socket.read_message()
        assert message is not None, "the browser has closed the connection"
        return dict(json.loads(message))

    async def open(self, path: Path) -> None:
        """Loads a file, pictures included."""
        await self.send("Page.navigate", url=path.as_uri())
        while (event := await self._next()).get("method") != "Page.loadEventFired":
            self.events.append(event)

    async def ask(self, expression: str) -> Any:
        """Evaluates JavaScript, and waits for what it promises."""
        found = await self.send(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    async def look(self, width: int, scheme: str) -> None:
        """Sets the width of the window and the colours that the person prefers."""
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
        await self.send("Emulation.setDeviceMetricsOverride", **size)
        wanted = [{"name": "prefers-color-scheme", "value": scheme}]
        await self.send("Emulation.setEmulatedMedia", features=wanted)

    async def press(self, key: str, code: int) -> None:
        """Presses a key."""
        text = {"text": "\r"} if key == "Enter" else {}
        for kind in ("keyDown", "keyUp"):
            found = {"type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code}
            await self.send(
                "Input.dispatchKeyEvent", **found, **(text if kind == "keyDown" else {})
            )

    @property
    def complaints(self) -> list[dict[str, Any]]:
        """What stands in the console, and exceptions."""
        kinds = {"Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled"}
        return [event for event in self.events if event.get("method") in kinds]


def browse(folder: Path, work: Callable[[Page], Coroutine[Any, Any, None]]) -> None:
    """Does some work with a page of a new browser.

    Args:
        folder: for the browser's own files.
        work: is given the page.
    """

    options = ["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0"]
    command = [str(CHROMIUM), *options, f"--user-data-dir={folder}", "about:blank"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            line = next(line for line in process.stderr if "DevTools listening on" in line)
            port = line.rpartition(":")[2].partition("/")[0]
            asyncio.run(asyncio.wait_for(_visit(port, work), 180))
        finally:
            process.terminate()


async def _visit(port: str, work: Callable[[Page], Coroutine[Any, Any, None]]) -> None:
    found = await AsyncHTTPClient().fetch(f"http://127.0.0.1:{port}/json")
    (address,) = (
        one["webSocketDebuggerUrl"] for one in json.loads(found.body) if one["type"] == "page"
    )
    page = Page(await websocket_connect(address))
    for domain in ("Page", "Runtime", "Log"):
        await page.send(f"{domain}.enable")
    await work(page)
