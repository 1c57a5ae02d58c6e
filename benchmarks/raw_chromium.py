"""A Chromium driven over its DevTools protocol with nothing switched on that is not asked for.

Playwright enables the protocol's ``Network`` domain on every page; the renderer then keeps what the page fetched, up to 100 MB
(https://chromedevtools.github.io/devtools-protocol/tot/Network/#method-enable, ``maxTotalBufferSize``), and a page that loads a clip
after the other seems to grow without end. Memory is therefore weighed here, in a browser as a person has it.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import websocket

START_S = 30.0


class Session:
    """One end of the protocol: the browser or a page."""

    def __init__(self, url: str):
        self._socket = websocket.create_connection(url, timeout=60, suppress_origin=True)
        self._last = 0

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        """What the browser answers. Raises ``RuntimeError`` with its words where it refuses."""
        self._last += 1
        self._socket.send(json.dumps({"id": self._last, "method": method, "params": params}))
        while True:
            answer = json.loads(self._socket.recv())
            if answer.get("id") != self._last:
                continue  # an event
            if "error" in answer:
                raise RuntimeError(f"{method}: {answer['error']['message']}")
            return dict(answer["result"])

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page."""
        found = self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in found:
            raise RuntimeError(f"{expression}: {found['exceptionDetails']}")
        return found["result"].get("value")

    def until(self, expression: str, seconds: float = 20.0) -> None:
        """Asks until the expression is true."""
        deadline = time.monotonic() + seconds
        while not self.evaluate(f"Boolean({expression})"):
            if time.monotonic() > deadline:
                raise TimeoutError(f"not within {seconds:.0f} s: {expression}")
            time.sleep(0.01)

    def press(self, digit: int) -> None:
        """A digit of the keyboard, down and up."""
        key = {"key": str(digit), "code": f"Digit{digit}", "windowsVirtualKeyCode": 48 + digit}
        self.send("Input.dispatchKeyEvent", type="keyDown", text=str(digit), **key)
        self.send("Input.dispatchKeyEvent", type="keyUp", **key)

    def close(self) -> None:
        self._socket.close()


class Chromium:
    """A browser with one page, in a profile of its own. ``with Chromium(path, flags) as browser: browser.page...``"""

    def __init__(self, path: str, flags: Sequence[str], size: tuple[int, int] = (1100, 620)):
        self._command = [path, *flags, "--remote-debugging-port=0", f"--window-size={size[0]},{size[1]}"]

    def __enter__(self) -> Chromium:
        self._profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        folder = Path(self._profile.name)
        self._process = subprocess.Popen(
            [*self._command, f"--user-data-dir={folder}", "about:blank"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        port_file, deadline = folder / "DevToolsActivePort", time.monotonic() + START_S
        while not (port_file.exists() and port_file.read_text(encoding="utf-8").count("\n")):
            if time.monotonic() > deadline or self._process.poll() is not None:
                raise SystemExit("the browser did not start")
            time.sleep(0.05)
        port, way = port_file.read_text(encoding="utf-8").split()[:2]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=START_S) as answer:
            first = next(target for target in json.load(answer) if target["type"] == "page")
        self.page = Session(first["webSocketDebuggerUrl"])
        self.browser = Session(f"ws://127.0.0.1:{port}{way}")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.page.close()
        self.browser.close()
        self._process.terminate()
        self._process.wait(30)
        self._profile.cleanup()

    def renderer_mb(self) -> float | None:
        """Megabytes of private memory of the largest renderer; None where the system does not tell."""
        found = []
        for process in self.browser.send("SystemInfo.getProcessInfo")["processInfo"]:
            if process["type"] != "renderer":
                continue
            try:
                text = Path(f"/proc/{process['id']}/smaps_rollup").read_text(encoding="ascii")
            except OSError:
                continue
            found.append(sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Private_")) / 1e3)
        return max(found, default=None)
