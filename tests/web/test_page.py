"""The page in a real browser: headless Chromium."""

from __future__ import annotations

import shutil
import time
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest
from show import FPS, Show, get, show, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

webdriver = pytest.importorskip("selenium.webdriver", reason="no selenium: pip install selenium")
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    CHROMIUM is None or DRIVER is None, reason="no Chromium here: tools/install_chromium.sh installs it"
)
DESKTOP, PHONE = (1440, 900), (390, 844)
STARTS = "--headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage --disable-extensions"


class Browser:
    """One page, read by what stands on it."""

    def __init__(self, driver: Any, downloads: Path) -> None:
        self.driver = driver
        self.downloads = downloads

    def open(self, url: str, size: tuple[int, int] = DESKTOP) -> None:
        width, height = size
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        self.driver.get_log("browser")
        self.driver.get(url)
        until(lambda: self.text("badge-level") == "OK", 20)
        until(lambda: self.pixels("stage"), 20)

    def js(self, code: str, *args: Any) -> Any:
        return self.driver.execute_script(code, *args)

    def text(self, name: str) -> str:
        said: str = self.js("return document.getElementById(arguments[0]).innerText", name)
        return said

    def pixels(self, pane: str) -> int:
        """A number that follows every pixel of a view; 0: nothing was drawn."""
        number: int = self.js(
            "const c = document.querySelector(`[data-pane=${arguments[0]}] canvas`);"
            "const copy = Object.assign(document.createElement('canvas'), {width: c.width, height: c.height});"
            "const context = copy.getContext('2d', {willReadFrequently: true}); context.drawImage(c, 0, 0);"
            "const d = context.getImageData(0, 0, c.width, c.height).data;"
            "let n = 0; for (let i = 0; i < d.length; i++) if (i % 4 < 3) n = (n * 31 + d[i]) % 1000003; return n",
            pane,
        )
        return number

    def click(self, selector: str) -> None:
        self.js("document.querySelector(arguments[0]).click()", selector)

    def slide(self, value: int) -> None:
        self.js(
            "const s = document.getElementById('opacity'); s.value = arguments[0];"
            "s.dispatchEvent(new Event('input'))",
            value,
        )

    def complaints(self) -> list[str]:
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def downloaded(self, pattern: str) -> Path:
        until(lambda: list(self.downloads.glob(pattern)), 15)
        return next(self.downloads.glob(pattern))


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in STARTS.split():
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    made = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    try:
        yield made
    finally:
        made.quit()


@pytest.fixture
def browser(driver: Any, tmp_path: Path) -> Iterator[Browser]:
    downloads = tmp_path / "downloads"
    where = {"behavior": "allow", "downloadPath": str(downloads)}
    driver.execute_cdp_cmd("Browser.setDownloadBehavior", where)
    yield Browser(driver, downloads)
    driver.get("about:blank")


def test_the_views_move_and_the_numbers_change(running: Show, browser: Browser) -> None:
    browser.open(running.url)
    for pane in ("stage", "depth", "semantics", "normals", "edges"):
        before = browser.pixels(pane)
        assert before
        until(lambda pane=pane, before=before: browser.pixels(pane) != before)
    assert float(browser.text("key-fps")) == pytest.approx(FPS, rel=0.5)
    count = browser.text("drops")
    until(lambda: browser.text("drops") != count)
    assert " / " in browser.text("key-age")
    assert browser.js("const c = document.getElementById('chart-fps'); return c.width * c.height") > 0
    assert browser.text("health-text") == "All parts are well."
    assert "tiny" in browser.text("engine")
    assert "passed" in browser.text("verdict")
    assert "eight pictures" in browser.text("source")
    assert not browser.complaints()


def test_the_legend_names_what_is_in_view_and_the_scale_is_in_metres(running: Show, browser: Browser) -> None:
    browser.open(running.url)
    rows = browser.text("legend").split("\n")
    assert {"class_0", "class_1"} <= set(rows)
    assert any(row.endswith(" %") for row in rows)
    assert browser.text("near").endswith(" m")
    near, far = (float(browser.text(name).removesuffix(" m")) for name in ("near", "far"))
    assert 1 <= near < far <= 5


def test_classes_are_shown_in_the_colours_of_the_label_space(running: Show, browser: Browser) -> None:
    browser.open(running.url)
    colors = browser.js(
        "const c = document.querySelector('[data-pane=semantics] canvas');"
        "const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data; const seen = new Set();"
        "for (let i = 0; i < d.length; i += 4) seen.add(`${d[i]},${d[i+1]},${d[i+2]}`); return [...seen]"
    )
    known = running.pipeline.engine.manifest.label_space.colors  # type: ignore[union-attr]
    assert set(colors) == {",".join(map(str, color)) for color in known}


def test_the_overlay_changes_the_picture(running: Show, browser: Browser) -> None:
    browser.open(running.url)
    running.camera.stalled.set()  # so that only the overlay changes it
    time.sleep(0.6)
    seen = set()
    for overlay in ("none", "depth", "semantics", "normals", "edges"):
        browser.click(f"input[value={overlay}]")
        for opacity in (30, 80):
            browser.slide(opacity)
            seen.add(browser.pixels("stage"))
    assert len(seen) == 9, "without an overlay the opacity is nothing"
    assert browser.text("opacity-value") == "80 %"


def test_what_is_under_the_pointer_is_read_in_metres(running: Show, browser: Browser) -> None:
    browser.open(running.url)
    frame = browser.driver.find_element("css selector", ".stage .frame")
    webdriver.ActionChains(browser.driver).move_to_element(frame).perform()
    until(lambda: browser.text("reading-depth").endswith(" m"))
    assert browser.text("reading-label") in ("class_0", "class_1")
    assert browser.text("reading-normal").count(".") == 3
    first = browser.text("reading-depth")
    until(lambda: browser.text("reading-depth") != first)  # it follows the pictures
    frame.send_keys(webdriver.Keys.ARROW_LEFT, webdriver.Keys.ESCAPE)
    until(lambda: "Point at a view" in browser.text("reading-none"))


def test_a_stalled_source_turns_the_health_red_and_its_return_green(running: Show, browser: Browser) -> None:
    browser.open(running.url)
    running.camera.stalled.set()
    until(lambda: browser.text("badge-level").upper() == "FAILED")
    assert browser.text("health-text") == "no frame for 2 s: eight pictures, 160x120"
    assert "picture is" in browser.text("picture-age")
    assert browser.driver.title == "Failed: m2h"
    red = browser.js("return getComputedStyle(document.getElementById('health-level')).color")
    running.camera.stalled.clear()
    until(lambda: browser.text("badge-level") == "OK")
    assert browser.js("return getComputedStyle(document.getElementById('health-level')).color") != red
    assert "pace Failed: no frame for 2 s" in browser.js(
        "return document.getElementById('changes').textContent"
    )


def test_a_silent_robot_is_told_and_the_page_comes_back_by_itself(running: Show, browser: Browser) -> None:
    browser.open(running.url)
    running.dashboard._loop.call_soon_threadsafe(time.sleep, 5)  # type: ignore[union-attr]  # a network that went away
    until(lambda: "No connection to the robot" in browser.text("banner-text"))
    assert browser.text("badge-level").upper() == "NO CONNECTION"
    assert browser.text("health-level").upper() == "NO CONNECTION", "what was green is so no longer"
    assert browser.js("return document.body.classList.contains('old')"), "the views are dimmed"
    until(lambda: browser.text("badge-level") == "OK", 15)
    before = browser.pixels("stage")
    until(lambda: browser.pixels("stage") != before)
    assert not browser.js("return document.getElementById('banner').offsetHeight")


def test_the_next_run_is_found_by_the_same_page(tiny_engine: Path, tmp_path: Path, browser: Browser) -> None:
    with show(tiny_engine, tmp_path) as made:
        browser.open(made.url)
        port = made.port
    until(lambda: "The run is over" in browser.text("banner-text"))
    with show(tiny_engine, tmp_path, port=port):
        until(lambda: browser.text("badge-level") == "OK", 15)


def test_a_snapshot_is_downloaded(running: Show, browser: Browser) -> None:
    browser.open(running.url)
    browser.click("#snapshot")
    sheet = cv2.imread(str(browser.downloaded("m2h_*.png")))
    assert sheet.shape[1] == 480
    browser.click("#arrays")
    assert np.load(browser.downloaded("m2h_*.npz"))["depth"].shape == (120, 160)


def test_a_recording_is_made_with_one_button(running: Show, browser: Browser) -> None:
    browser.open(running.url)
    browser.click("#record")
    until(lambda: browser.text("record-text").startswith("Stop"))
    until(lambda: running.pipeline.counts.written["web record"] > 8)
    browser.click("#record")
    until(lambda: "Saved on the robot" in browser.text("recording"))
    (path,) = running.recordings.iterdir()
    assert path.name in browser.text("recording")
    assert cv2.VideoCapture(str(path)).read()[0]
    assert not browser.complaints()


def test_a_phone_scrolls_down_but_not_sideways_and_asks_for_what_it_shows(
    running: Show, browser: Browser
) -> None:
    browser.open(running.url, PHONE)
    assert browser.js("return document.documentElement.scrollWidth") == PHONE[0]
    assert browser.js("return document.documentElement.scrollHeight") > PHONE[1]
    assert not browser.pixels("edges"), "far below: not even asked for"
    browser.js("document.querySelector('[data-pane=edges]').scrollIntoView({block: 'center'})")
    until(lambda: browser.pixels("edges"))
    small = browser.js(
        "return [...document.querySelectorAll('.actions button, .actions select')].map((e) => e.offsetHeight)"
    )
    assert min(small) >= 36, "for fingers"
    assert not browser.complaints()


def test_the_token_goes_from_the_address_into_a_cookie(
    tiny_engine: Path, tmp_path: Path, browser: Browser
) -> None:
    with show(tiny_engine, tmp_path, token="of-my-own") as made:  # noqa: S106
        browser.open(made.url)
        assert "token" not in browser.driver.current_url
        browser.driver.refresh()
        until(lambda: browser.text("badge-level") == "OK")
        assert get(browser.driver.current_url).status == 401, "for anybody else"
