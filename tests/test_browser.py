"""The pages as a browser shows them: nothing loaded, nothing complained of, nothing cut off, everything readable."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import pytest
from tests.browser import DESK, PHONE, SCREENS, Looked, chromium, look
from tests.scene import populate, report_page, write_state
from tests.test_dashboard_live import environment, served

from flywheel.base.clock import now
from monitoring import main

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Browser

pytestmark = pytest.mark.slow
screens = pytest.mark.parametrize(("width", "scheme"), SCREENS)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("busy")
    populate(root, now())
    write_state(root / "state.json", now())
    (root / "config.json").write_text('{"monthly_budget_usd": 8}')
    with pytest.MonkeyPatch.context() as patch:
        for variable, value in environment(root).items():
            patch.setenv(variable, value)
        assert main(["dashboard", "--html", str(root / "page.html")]) == 0
    (root / "report.html").write_text(report_page(root / "reported", now()))
    return root


@screens
@pytest.mark.parametrize("name", ["page.html", "report.html"])
def test_a_busy_page_is_sound_on_every_screen(
    browser: Browser, busy: Path, name: str, width: int, scheme: Literal["light", "dark"]
) -> None:
    picture = busy / f"{name}-{width}-{scheme}.png"
    looked = look(browser, (busy / name).as_uri(), width, scheme, picture)
    looked.check()
    assert picture.stat().st_size > 50_000


@screens
def test_an_empty_page_is_sound_too(
    browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, width: int, scheme: Literal["light", "dark"]
) -> None:
    (tmp_path / "config.json").write_text("{}")
    for variable, value in environment(tmp_path).items():
        monkeypatch.setenv(variable, value)
    assert main(["dashboard", "--html", str(tmp_path / "page.html")]) == 0
    look(browser, (tmp_path / "page.html").as_uri(), width, scheme).check()


def test_the_served_page_is_sound(browser: Browser, busy: Path) -> None:
    with served(busy) as server:
        looked = look(browser, f"http://127.0.0.1:{server.port}/", PHONE, "dark")
        assert looked.status == 200
        looked.check()


BAD = """<!doctype html><html><body style="background: #fff">
<img src="http://127.0.0.1:9/x.png"><script>console.log("hello")</script>
<p style="color: #aaa">faint</p><p style="font-size: 6px">small</p><div style="width: 2000px">wide</div></body>"""


def test_the_browser_would_see_what_is_wrong(browser: Browser, tmp_path: Path) -> None:
    (tmp_path / "bad.html").write_text(BAD)
    looked = look(browser, (tmp_path / "bad.html").as_uri(), DESK, "light")
    assert looked.requests == ["http://127.0.0.1:9/x.png"]
    assert "hello" in looked.console
    assert looked.found["overflow"] > 700
    assert [text.split()[-1] for text in looked.found["faint"]] == ["faint"]
    assert [text.split()[-1] for text in looked.found["small"]] == ["small"]
    assert looked.found["wide"] == ["DIV.: wide"]
    with pytest.raises(AssertionError):
        looked.check()
    with pytest.raises(AssertionError):
        Looked(found={"overflow": 1, "wide": [], "faint": [], "small": []}).check()
