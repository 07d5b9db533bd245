"""A real Chromium without a window, and the accessibility rules of axe-core."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path

import pytest

SLOW_MS = 240_000  # beside other tests, on a slow machine
WCAG = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
#: Without those against background traffic Chromium looks for its maker's hosts at every start.
_FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--no-proxy-server",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip


def chromium() -> str | None:
    """Path of the Chromium that the system has."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


def _missing() -> str:
    if importlib.util.find_spec("playwright") is None:
        return "playwright is not installed (it is in the `dev` extra)"
    if chromium() is None:
        return "Chromium is not installed (as root: tests/app/install_viewers.sh)"
    return ""


needs_chromium = pytest.mark.skipif(bool(_missing()), reason=_missing() or "Chromium is here")


@pytest.fixture(scope="module")
def chrome():
    """A running browser; each test opens its own context."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=chromium(), args=list(_FLAGS))
        yield running
        running.close()


@pytest.fixture
def tab(chrome):
    """A page; what went wrong in it, and addresses of other servers it asked for, must be nothing."""
    context = chrome.new_context(viewport={"width": 1440, "height": 1000}, locale="en-GB")
    page = context.new_page()
    page.set_default_timeout(SLOW_MS)
    trouble: list[str] = []
    page.on("pageerror", lambda error: trouble.append(str(error)))
    page.on("console", lambda line: trouble.append(line.text) if "Content Security" in line.text else None)
    page.on("request", lambda request: trouble.append(request.url) if _is_foreign(request.url) else None)
    yield page
    context.close()
    assert not trouble


def _is_foreign(url: str) -> bool:
    return not url.startswith(("http://127.0.0.1:", "blob:", "data:"))


def accessibility_faults(page) -> list[str]:
    """What axe-core finds against WCAG 2.2 A and AA in what the page shows now: rule and element."""
    axe = pytest.importorskip("axe_playwright_python")
    page.evaluate((Path(axe.__file__).parent / "axe.min.js").read_text(encoding="utf-8"))
    options = {"runOnly": {"type": "tag", "values": WCAG}}
    found = page.evaluate(f"axe.run(document, {json.dumps(options)})")
    assert len(found["passes"]) > 10  # the rules did run
    return [f"{rule['id']}: {node['html']}" for rule in found["violations"] for node in rule["nodes"]]
