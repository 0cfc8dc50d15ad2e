"""Headless Chromium, driven through its DevTools protocol: what a page looks like, says and asks the network for."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, cast
from urllib.request import Request, urlopen

from websockets.sync.client import ClientConnection, connect

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
_FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
    "--remote-debugging-port=0", "--remote-allow-origins=*",
)  # fmt: skip
_PATIENCE_S = 60.0
_STARTS = 3
_NAVIGATED = ("Inspected target navigated or closed", "Execution context was destroyed", "Cannot find context")


class Navigated(Exception):
    """The page went elsewhere while a script ran in it."""


class Page:
    """One tab.

    Attributes:
        complaints: Errors and warnings of the page's console, and exceptions in its script.
        asked: Addresses that the page asked for.
    """

    def __init__(self, socket: ClientConnection) -> None:
        self._socket, self._last = socket, 0
        self.complaints: list[str] = []
        self.asked: list[str] = []
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Answer of one DevTools method."""
        self._last += 1
        self._socket.send(json.dumps({"id": self._last, "method": method, "params": params}))
        while True:
            message = json.loads(self._socket.recv(timeout=_PATIENCE_S))
            if message.get("id") == self._last:
                output = message.get("error", {}).get("message", "")
                if output.startswith(_NAVIGATED):
                    raise Navigated(output)
                assert "error" not in message, message["error"]
                return cast("dict[str, Any]", message["result"])
            self._notice(message)

    def open(self, address: str, width: int = 1200, height: int = 900, dark: bool = False) -> None:
        """Load a page in a window of this size; returns once it is loaded and drawn."""
        phone = width < 600
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=2 if phone else 1,
            mobile=phone,
        )  # fmt: skip
        features = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.call("Emulation.setEmulatedMedia", features=features)
        self.call("Page.navigate", url=address)
        self.wait_for("document.readyState === 'complete' && location.href !== 'about:blank'")
        self.wait_for("new Promise(r => requestAnimationFrame(() => requestAnimationFrame(() => r(true))))")

    def run(self, script: str) -> Any:
        """Value of an expression in the page."""
        result = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def wait_for(self, condition: str, timeout_s: float = _PATIENCE_S) -> None:
        """Wait until an expression is true in the page, or in the one that it leads to meanwhile."""
        deadline = time.monotonic() + timeout_s
        while not self._holds(condition):
            assert time.monotonic() < deadline, f"never true: {condition}"
            time.sleep(0.05)

    def _holds(self, condition: str) -> bool:
        try:
            return bool(self.run(condition))
        except Navigated:
            return False

    def point_at(self, selector: str) -> tuple[float, float]:
        """Scroll to the first such element, move the mouse onto its middle; returns where that is."""
        where = self.run(f"""(() => {{
            const el = document.querySelector({json.dumps(selector)});
            el.scrollIntoView({{block: "center", behavior: "instant"}});
            const box = el.getBoundingClientRect();
            return [box.x + box.width / 2, box.y + box.height / 2];
        }})()""")
        x, y = where
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
        return x, y

    def click(self, selector: str) -> None:
        x, y = self.point_at(selector)
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def drag(self, selector: str, dx: float, dy: float) -> None:
        """Press on the middle of an element, move, let go."""
        x, y = self.point_at(selector)
        self.call("Input.dispatchMouseEvent", type="mousePressed", x=x, y=y, button="left", clickCount=1)
        for part in (0.5, 1.0):
            self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x + part * dx, y=y + part * dy, buttons=1)
        self.call("Input.dispatchMouseEvent", type="mouseReleased", x=x + dx, y=y + dy, button="left", clickCount=1)

    def pdf(self) -> bytes:
        """The page as printed."""
        return base64.b64decode(self.call("Page.printToPDF", printBackground=False)["data"])

    def screenshot(self, path: Path, whole: bool = False) -> Path:
        """Write what the window shows, or the whole page, as PNG."""
        shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(shot["data"]))
        return path

    def _notice(self, message: dict[str, Any]) -> None:
        match message.get("method"), message.get("params", {}):
            case "Runtime.exceptionThrown", {"exceptionDetails": details}:
                self.complaints.append(str(details))
            case "Runtime.consoleAPICalled", {"type": "error" | "warning", "args": output}:
                self.complaints.append(str(output))
            case "Log.entryAdded", {"entry": {"level": "error" | "warning", "text": text}}:
                self.complaints.append(text)
            case "Network.requestWillBeSent", {"request": {"url": url}}:
                self.asked.append(url)


class Browser:
    """Chromium. One that has died, as under a shortage of memory, is started anew by the next page.

    Args:
        folder: Its profiles are kept here, a fresh one for each start.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process, self._address = self._start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @contextmanager
    def page(self) -> Iterator[Page]:
        """A new tab."""
        with connect(self._new_tab(), max_size=None, open_timeout=_PATIENCE_S) as socket:
            yield Page(socket)

    def addresses(self) -> list[str]:
        """What its tabs show."""
        with urlopen(f"{self._address}/json/list", timeout=_PATIENCE_S) as answer:
            return [tab["url"] for tab in json.load(answer) if tab["type"] == "page"]

    def close(self) -> None:
        """End it, whatever state it is in."""
        self._process.terminate()
        try:
            self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stderr is not None:
            self._process.stderr.close()

    def _new_tab(self) -> str:
        """The address at which a new tab takes commands. On a machine short of memory a start, too, may be in vain."""
        for _ in range(_STARTS):
            with suppress(OSError):
                return self._tab()
            self.close()
            with suppress(ChildProcessError):
                self._process, self._address = self._start()
        return self._tab()

    def _tab(self) -> str:
        with urlopen(Request(f"{self._address}/json/new?about:blank", method="PUT"), timeout=_PATIENCE_S) as answer:
            return str(json.load(answer)["webSocketDebuggerUrl"])

    def _start(self) -> tuple[subprocess.Popen[str], str]:
        assert CHROMIUM is not None
        command = [CHROMIUM, *_FLAGS, f"--user-data-dir={tempfile.mkdtemp(dir=self._folder)}", "about:blank"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None  # stays open: Chromium writes to it as long as it runs
        for line in process.stderr:
            if listening := re.search(r"DevTools listening on ws://([^/]+)/", line):
                return process, f"http://{listening.group(1)}"
        raise ChildProcessError(f"Chromium did not start: it ended with {process.wait()}")


@contextmanager
def chromium(folder: Path) -> Iterator[Browser]:
    """Chromium with its profiles in this folder, ended with the context."""
    browser = Browser(folder)
    try:
        yield browser
    finally:
        browser.close()
