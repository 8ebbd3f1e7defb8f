"""The reference page in a real browser: as a reader meets it, with the keyboard alone.

Skipped where there is no Chromium, except in CI, where a missing browser is a failure.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from arsenal_kit import Running

sys.path.insert(0, str(Path(__file__).parents[1] / "views"))

import lab

from superlearner.errors import ClusterNotFound

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        lab.chromium() is None and not os.environ.get("CI"), reason="there is no Chromium here"
    ),
    # Playwright closes its event loop after its own threads have ended.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
if not os.environ.get("CI"):
    pytest.importorskip("playwright")

#: The least contrast of every text with what is behind it, by WCAG 2.2 (1.4.3).
CONTRAST = """() => {
  const light = (rgb) => {
    const [r, g, b] = rgb.map((v) => ((v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const parts = (color) => color.match(/[\\d.]+/g).map(Number);
  const behind = (e) => {
    const color = parts(getComputedStyle(e).backgroundColor);
    return color.length > 3 && color[3] === 0 ? behind(e.parentElement) : color.slice(0, 3);
  };
  const worst = { ratio: 99 };
  for (const e of document.querySelectorAll("body *")) {
    const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!own || !e.checkVisibility()) continue;
    const [a, b] = [light(parts(getComputedStyle(e).color).slice(0, 3)), light(behind(e))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < worst.ratio) Object.assign(worst, { ratio, text: e.textContent.slice(0, 40) });
  }
  return worst;
}"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server without a cluster: the page needs none."""

    async def nowhere():
        raise ClusterNotFound("There is no cluster here.")

    running = Running(tmp_path_factory.mktemp("tokens") / "tokens.json", connect=nowhere)
    try:
        yield running
    finally:
        running.close()


@pytest.fixture(scope="module")
def browser():
    with lab.browser_page() as page:
        yield page.context.browser


@pytest.fixture
def opened(browser, server):
    """Opens the page as a person does: the browser asks for a name and a password, and gets a token."""
    contexts = []

    def open_page(path="", **options):
        known = {"username": "anybody", "password": server.tokens["read"]}
        contexts.append(browser.new_context(http_credentials=known, **options))
        page = contexts[-1].new_page()
        page.set_default_timeout(10_000)
        page.goto(f"{server.url}/api/v1/{path}")
        return page

    yield open_page
    for context in contexts:
        context.close()


@pytest.mark.slow
def test_a_reader_finds_reads_and_copies_with_the_keyboard(opened):
    page = opened(permissions=["clipboard-read", "clipboard-write"])
    heard: list[str] = []
    page.on("console", lambda message: heard.append(message.text))
    page.on("pageerror", lambda error: heard.append(str(error)))
    page.on("request", lambda request: heard.append(request.url))
    page.keyboard.press("/")
    page.keyboard.type("restart_child")
    page.locator("#count", has_text="1 of ").wait_for()
    assert page.locator(".op:visible").count() == page.locator(".toc li li:visible").count() == 1
    page.keyboard.press("Enter")
    page.locator("#restart_child").get_by_text("child_not_found").wait_for()
    assert page.url.endswith("#restart_child")
    page.locator("#restart_child figure", has_text="Command").get_by_role("button").focus()
    page.keyboard.press("Enter")
    page.locator("#said", has_text="Copied").wait_for(state="attached")
    assert (
        page.evaluate("navigator.clipboard.readText()") == "superlearner op restart_child shop root counter"
    )
    page.keyboard.press("/")
    page.keyboard.press("Escape")
    assert page.locator(".op:visible").count() == page.locator(".op").count()
    page.click(".toc a[href='#create_sandbox']")
    page.locator("#create_sandbox").get_by_text("Fields of ResourceParams").click()
    page.get_by_text("Share of one core that placement reserves for it.").first.wait_for()
    assert heard == [], "the page asks for nothing, and nothing in it fails"


@pytest.mark.parametrize("scheme", ["light", pytest.param("dark", marks=pytest.mark.slow)])
def test_everything_can_be_read_and_nothing_runs_over_the_edge(opened, scheme):
    page = opened(color_scheme=scheme)
    page.evaluate("document.querySelectorAll('details').forEach((one) => (one.open = true))")
    worst = page.evaluate(CONTRAST)
    assert worst["ratio"] >= 4.5, worst
    for width in (1280, 800, 380):
        page.set_viewport_size({"width": width, "height": 900})
        over = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert page.evaluate(over) == 0


def test_without_scripts_it_is_whole_and_links_open_what_they_name(opened):
    page = opened("#get_node", java_script_enabled=False)
    page.locator("#get_node").wait_for()
    assert page.locator(".find").is_hidden()
    page.click(".toc a[href='#heal']")
    page.locator("#heal").wait_for()
