"""A real browser (Debian's chromium, headless) that looks at a page as people do, and says what is wrong with it."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import pytest
from playwright.sync_api import sync_playwright

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Browser

DESK, PHONE = 1280, 390
SCREENS: list[tuple[int, Literal["light", "dark"]]] = [
    (DESK, "light"), (DESK, "dark"), (PHONE, "light"), (PHONE, "dark"),
]  # fmt: skip
# WCAG 2.2, 1.4.3: the least contrast of text with what is behind it, and of text of 24 px and more.
LEAST_CONTRAST, LEAST_OF_LARGE = 4.5, 3.0
# What the page says of itself: elements wider than the window, and text that is hard to read.
INSPECT = r"""
least => {
  const shown = e => { const r = e.getBoundingClientRect(); return r.width > 0 && r.height > 0; };
  const colour = text => { const m = text.match(/[\d.]+/g).map(Number); return m.length < 4 ? [...m, 1] : m; };
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
    .map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
  const behind = e => { for (let n = e; n; n = n.parentElement) {
    const c = colour(getComputedStyle(n).backgroundColor); if (c[3] === 1) return c; } return [255, 255, 255, 1]; };
  const width = document.documentElement.clientWidth;
  const wide = [...document.querySelectorAll('body *')].filter(shown)
    .filter(e => e.getBoundingClientRect().right > width + 1 && !e.closest('.scroll'))
    .map(e => e.tagName + '.' + (e.getAttribute('class') || '') + ': ' + e.textContent.trim().slice(0, 60));
  const faint = [], small = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const text = walker.currentNode.textContent.trim(), e = walker.currentNode.parentElement;
    if (!text || !shown(e)) continue;
    const style = getComputedStyle(e), svg = e.closest('svg');
    const [one, two] = [colour(svg ? style.fill : style.color), behind(e)].map(light).sort((a, b) => b - a);
    const ratio = (one + .05) / (two + .05), size = parseFloat(style.fontSize);
    const scale = svg && svg.viewBox.baseVal.width ? svg.getBoundingClientRect().width / svg.viewBox.baseVal.width : 1;
    if (ratio < (size >= 24 ? least[1] : least[0])) faint.push(ratio.toFixed(2) + ' ' + text.slice(0, 40));
    if (size * scale < 10) small.push((size * scale).toFixed(1) + ' ' + text.slice(0, 40));
  }
  return {overflow: document.documentElement.scrollWidth - width, wide, faint, small};
}
"""


@dataclass
class Looked:
    """What was seen: requests other than for the page itself, console messages, and what INSPECT found."""

    requests: list[str] = field(default_factory=list)
    console: list[str] = field(default_factory=list)
    found: dict[str, Any] = field(default_factory=dict)
    status: int | None = None

    def check(self) -> None:
        """A page that loads nothing, complains of nothing, fits the window and can be read."""
        assert self.console == []
        assert self.requests == []
        assert self.found == {"overflow": 0, "wide": [], "faint": [], "small": []}


@contextmanager
def chromium() -> Iterator[Browser]:
    """The browser; the test is skipped where none is installed."""
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("no chromium: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


def look(
    browser: Browser, url: str, width: int, scheme: Literal["light", "dark"], picture: Path | None = None
) -> Looked:
    """Open the page in a window of that width, and keep a picture of all of it where asked for."""
    looked = Looked()
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    try:
        page = context.new_page()
        page.on("console", lambda message: looked.console.append(message.text))
        page.on("pageerror", lambda error: looked.console.append(str(error)))
        page.on("request", lambda request: looked.requests.append(request.url) if request.url != url else None)
        answer = page.goto(url)
        looked.status = answer.status if answer is not None else None
        looked.found = page.evaluate(INSPECT, [LEAST_CONTRAST, LEAST_OF_LARGE])
        if picture is not None:
            page.screenshot(path=picture, full_page=True)
    finally:
        context.close()
    return looked
