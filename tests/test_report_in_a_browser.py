"""The page in a real browser: nothing is wider than a phone, a tablet or a laptop."""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from pytest_qnnrobust.report.page import to_html
from pytest_qnnrobust.results import headline
from tests.helpers.outcomes import results
from tests.helpers.runs import run

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
WIDTHS = (390, 768, 1200)
DARK = "--blink-settings=preferredColorScheme=0"

MEASURE = """
<pre id="measured"></pre>
<script>
addEventListener("load", () => {
  const measured = [...document.querySelectorAll("iframe")].map(frame => {
    const page = frame.contentDocument, root = page.documentElement;
    page.querySelectorAll("details").forEach(one => one.open = frame.dataset.open === "yes");
    const wide = [...page.querySelectorAll("body *")].filter(
      one => !one.closest(".wide") && one.getBoundingClientRect().right > root.clientWidth + 0.5);
    return {
      name: frame.title, width: root.clientWidth, needed: root.scrollWidth,
      wide: wide.slice(0, 3).map(one => one.outerHTML.slice(0, 100)),
      ground: getComputedStyle(page.body).backgroundColor, ink: getComputedStyle(page.body).color,
    };
  });
  document.getElementById("measured").textContent = JSON.stringify(measured);
});
</script>
"""
"""What the wrapper of the pages does: it asks each how wide it is, and how wide it has to be."""


@pytest.fixture(scope="module")
def browser():
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip(f"no browser: none of {', '.join(NAMES)} is installed")
    return found


def pages() -> dict[str, str]:
    states = (headline.PASSED, headline.FAILED, headline.MEASURED)
    made = {state: to_html(run(state), state != headline.FAILED) for state in states}
    return {**made, "older": to_html(results(), passed=False)}


def measured(browser: str, folder: Path, shown: dict[str, str], *flags: str) -> list[dict]:
    """Every page at every width, folds closed and open: in frames, by one start of a browser."""
    frames = [
        f'<iframe title="{name}, {width} px" data-open="{folds}" srcdoc="{html.escape(text)}" '
        f'style="border:0;height:900px;width:{width}px"></iframe>'
        for name, text in shown.items()
        for width in WIDTHS
        for folds in ("no", "yes")
    ]
    wrapper = folder / "wrapper.html"
    wrapper.write_text("<!doctype html>" + "".join(frames) + MEASURE, encoding="utf-8")
    root = ("--no-sandbox",) if os.geteuid() == 0 else ()
    command = [
        browser, "--headless", "--hide-scrollbars", "--disable-gpu", "--disable-dev-shm-usage",
        "--no-first-run", *root,
        f"--user-data-dir={folder / 'profile'}", *flags, "--dump-dom", wrapper.as_uri(),
    ]  # fmt: skip
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    found = re.search(r'<pre id="measured">(.+?)</pre>', ended.stdout)
    assert found, ended.stderr[-2000:]
    return json.loads(html.unescape(found[1]))


def test_no_page_scrolls_sideways(browser, tmp_path):
    shown = pages()
    found = measured(browser, tmp_path, shown)
    assert len(found) == len(shown) * len(WIDTHS) * 2
    assert {one["width"] for one in found} == set(WIDTHS)
    assert [one for one in found if one["needed"] > one["width"] or one["wide"]] == []
    assert all(brightness(one["ground"]) > brightness(one["ink"]) for one in found)


def test_the_page_is_dark_where_the_reader_prefers_that(browser, tmp_path):
    shown = {"measured": to_html(run(headline.MEASURED), passed=True)}
    page = measured(browser, tmp_path, shown, DARK)[0]
    assert brightness(page["ground"]) < brightness(page["ink"])


def brightness(colour: str) -> int:
    return sum(map(int, re.findall(r"\d+", colour)[:3]))
