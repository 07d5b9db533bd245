"""Stock OHIF in a real Chromium: a page of it, what it shows, and an overlay asked for in its panel.

`RADCLEAR_PICTURES=FOLDER` keeps what the browser showed, for the documentation.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from browser import SLOW_MS, chromium

#: WebGL without a graphics card; and nothing that asks Chromium's maker.
_FLAGS = (
    "--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader",
    "--ignore-gpu-blocklist", "--disable-quic", "--no-first-run", "--no-proxy-server",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip


@contextmanager
def viewer_page(url: str, *flags: str, **options) -> Iterator:
    """A page that draws volumes; errors in it, and what it asked of other servers, must be nothing.

    Args:
        url: of the only server it may ask.
        flags: more of Chromium's.
        options: of playwright's context.
    """
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium(), args=[*_FLAGS, *flags])
        context = browser.new_context(viewport={"width": 1280, "height": 720}, locale="en-GB", **options)
        shown = context.new_page()
        shown.set_default_timeout(SLOW_MS)
        trouble, left = [], []
        shown.on("pageerror", lambda error: trouble.append(str(error)))
        shown.on(
            "response", lambda r: None if r.url.startswith((url, "blob:", "data:")) else left.append(r.url)
        )
        yield shown
        browser.close()
        assert not trouble and not left, (trouble, left)


def keep(page, name: str) -> bytes:
    """A picture of the page; written where pictures are wanted."""
    picture = page.screenshot(timeout=SLOW_MS)
    if folder := os.environ.get("RADCLEAR_PICTURES"):
        (Path(folder) / f"{name}.png").write_bytes(picture)
    return picture


def ask_in_the_panel(page, url: str, entry: str, *, picture: str) -> str:
    """Let the MONAI Label panel connect, choose an entry and run it; all three views have to change.

    Args:
        page: OHIF in its MONAI Label mode.
        url: of the server, without a slash at its end.
        entry: an overlay.
        picture: name of the picture of the views with the overlay.

    Returns:
        The text of the panel's list of models.
    """
    panel = page.locator(".monaiLabelPanel")
    panel.wait_for()
    assert page.input_value("#monailabelServerURL") == f"{url}/"
    with page.expect_response(lambda answer: answer.url == f"{url}/info/") as told:
        panel.locator("button").first.click()
    assert told.value.status == 200
    models = panel.locator("select", has_text=entry).first
    listed = models.inner_text()
    models.select_option(entry)
    views = page.locator("canvas")
    views.nth(2).wait_for()
    page.wait_for_timeout(4000)
    before = [_drawn(views.nth(n)) for n in range(3)]
    with page.expect_response(lambda answer: f"/infer/{entry}" in answer.url) as asked:
        panel.locator("button", has_text="Run").first.click()
    assert asked.value.status == 200
    page.get_by_text("Running Segmentation - Successful").wait_for()
    for _ in range(40):
        changed = [_changed(one, _pixels(views.nth(n))) for n, one in enumerate(before)]
        if all(changed):
            break
        page.wait_for_timeout(500)
    keep(page, picture)
    assert all(changed), changed
    return listed


def _pixels(element) -> np.ndarray:
    """What a part of the page shows: (y, x, 3)."""
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(element.screenshot(timeout=SLOW_MS))).convert("RGB")).astype(int)


def _drawn(view) -> np.ndarray:
    """What a view shows when it changes no more: the volume is drawn as it comes."""
    seen = _pixels(view)
    for _ in range(40):
        view.page.wait_for_timeout(500)
        seen, before = _pixels(view), seen
        if not _changed(seen, before):
            return seen
    raise AssertionError("a view of OHIF does not come to rest")


def _changed(one: np.ndarray, other: np.ndarray) -> int:
    return int((np.abs(one - other).max(axis=2) > 60).sum())
