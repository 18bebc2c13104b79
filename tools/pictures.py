"""The pictures of the README: the dashboard on a desktop and on a phone, and a short clip of the demo.

    python tools/pictures.py

They go to docs/images, and come from real runs of `m2h-run` with the shipped engine. Needs Chromium
(tools/install_chromium.sh), selenium and the extras `simulation` and `web`. Takes a minute.
"""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from selenium import webdriver

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

IMAGES = Path(__file__).resolve().parent.parent / "docs" / "images"
RUN = [str(Path(sys.executable).with_name("m2h-run")), "--simulate", "9004"]
DESKTOP, PHONE = (1440, 900), (390, 844)  # width, height
CHROMIUM = "--headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage --hide-scrollbars"
PATIENCE_S, CHARTS_S, VIEWS_S = 60, 38, 4
CLIP_FPS, CLIP_S, CLIP_WIDTH = 6, 5, 480
WEBP_QUALITY, JPEG_QUALITY = 60, 88


def until(happens: Callable[[], object]) -> None:
    """Wait until `happens()` is true."""
    end = time.monotonic() + PATIENCE_S
    while not happens():
        if time.monotonic() > end:
            raise TimeoutError(
                "pictures.py: the page did not come to life; does m2h-run --simulate --web work?"
            )
        time.sleep(0.3)


@contextmanager
def dashboard() -> Iterator[str]:
    """The address of a dashboard: of a run that goes on until the block ends."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [*RUN, "--camera-fps", "8", "--loop", "--web", str(port)]
    run = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}/"
    try:
        until(lambda: answers(address))
        yield address
    finally:
        run.send_signal(signal.SIGINT)
        run.wait(PATIENCE_S)


def answers(address: str) -> bool:
    """Whether there is a page."""
    try:
        with urllib.request.urlopen(address):  # noqa: S310
            return True
    except urllib.error.URLError:
        return False


@contextmanager
def browser() -> Iterator[Any]:
    """Headless Chromium."""
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for argument in CHROMIUM.split():
        options.add_argument(argument)
    driver = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
    try:
        yield driver
    finally:
        driver.quit()


def opened(driver: Any, address: str, size: tuple[int, int]) -> None:
    """Open the page in a window of `size`, and wait until it is alive."""
    width, height = size
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": size == PHONE}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    driver.get(address)
    until(lambda: driver.execute_script("return document.getElementById('badge-level').innerText") == "OK")
    driver.execute_script("document.querySelector('input[value=semantics]').click()")


def point(driver: Any) -> None:
    """Read a value in the middle of the large view."""
    driver.execute_script(
        "const f = document.querySelector('[data-pane=stage] .frame'), r = f.getBoundingClientRect();"
        "f.dispatchEvent(new PointerEvent('pointermove', {bubbles: true, pointerType: 'mouse',"
        " clientX: r.left + 0.6 * r.width, clientY: r.top + 0.55 * r.height}))"
    )


def photograph(driver: Any, path: Path) -> None:
    """Write what the window shows as JPEG."""
    shot = cv2.imdecode(np.frombuffer(driver.get_screenshot_as_png(), np.uint8), cv2.IMREAD_COLOR)
    cv2.imwrite(str(path), shot, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY, cv2.IMWRITE_JPEG_OPTIMIZE, 1])


def pages() -> None:
    """Write dashboard.jpg and dashboard_phone.jpg."""
    with dashboard() as address, browser() as driver:
        opened(driver, address, DESKTOP)
        time.sleep(CHARTS_S)
        point(driver)
        time.sleep(1)
        photograph(driver, IMAGES / "dashboard.jpg")
        opened(driver, address, PHONE)
        time.sleep(VIEWS_S)
        photograph(driver, IMAGES / "dashboard_phone.jpg")


def clip() -> None:
    """Write demo.webp: a few seconds of what `--record` writes, in a loop."""
    with tempfile.TemporaryDirectory() as scratch:
        recorded = Path(scratch) / "clip.mp4"
        frames = ["--camera-fps", str(CLIP_FPS), "--frames", str(CLIP_FPS * CLIP_S)]
        subprocess.run([*RUN, *frames, "--record", str(recorded)], check=True, stdout=subprocess.DEVNULL)
        moving = cv2.Animation()
        moving.frames = [small(panel) for panel in panels(recorded)]
    moving.durations = np.full(len(moving.frames), 1000 // CLIP_FPS, np.int32)
    cv2.imwriteanimation(str(IMAGES / "demo.webp"), moving, [cv2.IMWRITE_WEBP_QUALITY, WEBP_QUALITY])


def panels(path: Path) -> Iterator[np.ndarray]:
    """The pictures of a video, (H, W, 3) uint8 BGR."""
    video = cv2.VideoCapture(str(path))
    while (picture := video.read()[1]) is not None:
        yield picture


def small(panel: np.ndarray) -> np.ndarray:
    """The panel, as wide as the clip."""
    height = round(panel.shape[0] * CLIP_WIDTH / panel.shape[1])
    return cv2.resize(panel, (CLIP_WIDTH, height), interpolation=cv2.INTER_AREA)


def main() -> int:
    """Write all pictures."""
    if not (shutil.which("chromium") and shutil.which("chromedriver")):
        print(
            "pictures.py: no chromium and chromedriver here; run tools/install_chromium.sh", file=sys.stderr
        )
        return 2
    pages()
    clip()
    return 0


if __name__ == "__main__":
    sys.exit(main())
