"""Headless Chromium, driven over its DevTools pipe with the standard library alone."""
import base64
import contextlib
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-extensions",
         "--hide-scrollbars", "--disable-dev-shm-usage", "--no-zygote", "--remote-debugging-pipe")


class Page:
    """One page.   said: what its console and its network said, as (method, params)."""

    def __init__(self, into: int, out: int):
        self.into, self.out, self.rest, self.number = into, out, b"", 0
        self.said: list[tuple[str, Any]] = []
        self.session = None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> Any:
        """A method's result.   Raises: RuntimeError with the browser's message, or after 20 s."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.into, json.dumps(message).encode() + b"\0")
        while True:
            own = self.read()
            if own.get("id") == self.number:
                if "error" in own:
                    raise RuntimeError(f"{method}: {own['error']['message']}")
                return own["result"]

    def read(self, timeout: float = 20) -> Any:
        """The next message; events are kept in `said`."""
        end = time.monotonic() + timeout
        while b"\0" not in self.rest:
            if not select.select([self.out], [], [], max(0, end - time.monotonic()))[0]:
                raise RuntimeError("the browser does not answer")
            self.rest += os.read(self.out, 1 << 20)
        line, _, self.rest = self.rest.partition(b"\0")
        message = json.loads(line)
        if "method" in message:
            self.said.append((message["method"], message["params"]))
        return message

    def open(self, path: Path, *, width: int, dark: bool = False, height: int = 844) -> None:
        """Loads a file at a size and in a colour scheme."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1,
                  mobile=width < 600)
        self.call("Emulation.setEmulatedMedia", features=[
            {"name": "prefers-color-scheme", "value": "dark" if dark else "light"},
            {"name": "prefers-reduced-motion", "value": "reduce"}])
        loaded = len(self.said)
        self.call("Page.navigate", url=path.resolve().as_uri())
        while not any(method == "Page.loadEventFired" for method, _ in self.said[loaded:]):
            self.read()

    def run(self, code: str) -> Any:
        """The value of an expression in the page."""
        done = self.call("Runtime.evaluate", expression=code, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in done, done
        return done["result"].get("value")

    def press(self, key: str, code: int) -> None:
        """Presses a key."""
        text = {"text": "\r"} if key == "Enter" else {}
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code,
                      **(text if kind == "keyDown" else {}))

    def screenshot(self, path: Path, *, whole: bool = False) -> None:
        """Writes a picture of the window, or of the whole page."""
        clip: Any = {}
        if whole:
            size = self.call("Page.getLayoutMetrics")["cssContentSize"]
            clip = {"captureBeyondViewport": True, "clip": {**size, "x": 0, "y": 0, "scale": 1}}
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", **clip)["data"]))


@contextlib.contextmanager
def browser(folder: Path) -> Iterator[Page]:
    """A browser with its profile in a folder; it ends with the block."""
    theirs_in, into = os.pipe()
    out, theirs_out = os.pipe()

    def descriptors() -> None:  # the pipe is 3 and 4; moved up first, since they may be these already
        high = os.dup2(theirs_in, 60), os.dup2(theirs_out, 61)
        os.dup2(high[0], 3)
        os.dup2(high[1], 4)
    process = subprocess.Popen([str(CHROMIUM), *FLAGS, f"--user-data-dir={folder}"], preexec_fn=descriptors,
                               close_fds=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    os.close(theirs_in)
    os.close(theirs_out)
    try:
        yield Page(into, out)
    finally:
        process.kill()
        process.wait()
        os.close(into)
        os.close(out)
