"""A headless Chromium, driven by its DevTools protocol over a pipe.

https://chromedevtools.github.io/devtools-protocol/: messages are JSON, each ended by a NUL.
"""

import base64
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader, BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

CHROMIUM = shutil.which("chromium")
FONT = Path("/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf")
MAX_HEIGHT = 1400  # pixels, of a picture
# Pages look the same whatever fonts this machine has.
FONTS = f"""\
<!DOCTYPE fontconfig SYSTEM "urn:fontconfig:fonts.dtd">
<fontconfig><dir>{FONT.parent}</dir><cachedir prefix="xdg">fonts</cachedir>
<match><edit name="family" mode="append_last"><string>DejaVu Sans</string></edit></match>
<match target="font">
  <edit name="hinting" mode="assign"><bool>false</bool></edit>
  <edit name="antialias" mode="assign"><bool>true</bool></edit>
  <edit name="rgba" mode="assign"><const>none</const></edit>
</match></fontconfig>
"""
ARGUMENTS = (
    *("--headless=new", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu"),
    *("--disable-dev-shm-usage", "--no-first-run", "--disable-extensions", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--no-proxy-server"),
    *("--ignore-certificate-errors", "--lang=en-US"),
)


class Browser:
    """One page of a Chromium. ``complaints`` is all that its console said of errors."""

    def __init__(self, write: int, reader: BufferedReader) -> None:
        self.complaints: list[str] = []
        self._write = write
        self._reader = reader
        self._number = 0
        self._session: str | None = None
        self._unread = b""
        self._loaded = False
        target = self._send("Target.createTarget", url="about:blank")["targetId"]
        attached = self._send("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._send(f"{domain}.enable")

    def resize(self, width: int, height: int = 900, *, dark: bool = False) -> None:
        """Make the window so large, in a light or dark color scheme."""
        self._send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._send("Emulation.setEmulatedMedia", features=[scheme])

    def disable_script(self, disabled: bool = True) -> None:
        self._send("Emulation.setScriptExecutionDisabled", value=disabled)

    def open(self, address: str) -> None:
        """Open an address, and wait until it is loaded."""
        self._loaded = False
        answer = self._send("Page.navigate", url=address)
        assert "errorText" not in answer, f"{address}: {answer['errorText']}"
        self._await_load()

    def leave(self) -> None:
        """Leave the page, which would otherwise go on asking."""
        self.open("about:blank")

    def click(self, selector: str) -> None:
        """Click a link, and wait until what it leads to is loaded."""
        self._loaded = False
        found = self.run(
            f"(e => e ? (e.click(), true) : false)(document.querySelector({selector!r}))"
        )
        assert found, f"nothing is {selector}"
        self._await_load()

    def run(self, script: str) -> Any:
        """The value of an expression on the page."""
        answer = self._send(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def accessible_nodes(self) -> list[dict[str, Any]]:
        """What a screen reader gets to know of the page: each node's role, name and properties."""
        nodes = []
        for each in self._send("Accessibility.getFullAXTree")["nodes"]:
            if not each["ignored"]:
                node = {pair["name"]: pair["value"].get("value") for pair in each["properties"]}
                node |= {name: each.get(name, {}).get("value", "") for name in ("role", "name")}
                nodes.append(node)
        return nodes

    def press(self, key: str) -> None:
        """Press and release a key."""
        text = {"Enter": "\r"}.get(key, key if len(key) == 1 else "")
        code = {"Tab": 9, "Enter": 13}.get(key, 0)
        for kind in ("keyDown", "keyUp"):
            self._send(
                "Input.dispatchKeyEvent",
                type=kind,
                key=key,
                windowsVirtualKeyCode=code,
                **({"text": text} if kind == "keyDown" and text else {}),
            )

    def move_to(self, x: float, y: float) -> None:
        """Move the pointer."""
        self._send("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def screenshot(self) -> Image.Image:
        """A picture of the page, or if it is long, of its beginning."""
        size = self._send("Page.getLayoutMetrics")["cssContentSize"]
        height = min(size["height"], MAX_HEIGHT)
        clip = {"x": 0, "y": 0, "width": size["width"], "height": height, "scale": 1}
        picture = self._send(
            "Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip
        )
        return Image.open(BytesIO(base64.b64decode(picture["data"]))).convert("RGB")

    def _await_load(self) -> None:
        while not self._loaded:
            self._take_event(self._receive())

    def _send(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                result: dict[str, Any] = answer["result"]
                return result
            self._take_event(answer)

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._unread:
            data = self._reader.read1(2**20)
            assert data, "Chromium ended"
            self._unread += data
        message, _, self._unread = self._unread.partition(b"\0")
        found: dict[str, Any] = json.loads(message)
        return found

    def _take_event(self, event: dict[str, Any]) -> None:
        values = event.get("params", {})
        match event.get("method"):
            case "Page.loadEventFired":
                self._loaded = True
            case "Runtime.exceptionThrown":
                self.complaints.append(json.dumps(values["exceptionDetails"])[:500])
            case "Runtime.consoleAPICalled" if values["type"] in ("error", "warning", "assert"):
                self.complaints.append(json.dumps(values["args"])[:500])
            case "Log.entryAdded" if values["entry"]["level"] in ("error", "warning"):
                entry = values["entry"]
                self.complaints.append(f"{entry['text']} {entry.get('url', '')}")


@contextmanager
def running_browser() -> Iterator[Browser]:
    """A Chromium that ends with the block."""
    assert CHROMIUM, "apt-get install chromium"
    to_read, to_write = os.pipe()
    from_read, from_write = os.pipe()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        fonts = Path(folder) / "fonts.conf"
        fonts.write_text(FONTS)
        # The protocol is on descriptors 3 and 4; sh of Debian knows only those below 10.
        script = f'exec "$@" 3<&{to_read} 4>&{from_write}'
        command = ["bash", "-c", script, "bash", CHROMIUM, *ARGUMENTS, f"--user-data-dir={folder}"]
        process = subprocess.Popen(
            command,
            pass_fds=(to_read, from_write),
            stderr=subprocess.DEVNULL,
            env={**os.environ, "HOME": folder, "TZ": "UTC", "FONTCONFIG_FILE": str(fonts)},
        )
        os.close(to_read)
        os.close(from_write)
        reader = os.fdopen(from_read, "rb")
        try:
            yield Browser(to_write, reader)
        finally:
            os.close(to_write)  # it ends when its pipe does
            reader.close()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
