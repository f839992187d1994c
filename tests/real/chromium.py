"""The live page in a real Chromium: one tab, what it asked for, and what it complained of."""

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tests.real.conftest import missing
from tests.real.pages import wait_for
from tests.web.test_page import CHROMIUM, FLAGS

if TYPE_CHECKING:
    from playwright.sync_api import Page

PATIENCE_MS = 30_000


@dataclass
class Tab:
    """An open page; `addresses` is every request that it made."""

    page: "Page"
    addresses: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def wait(self, selector: str, text: str) -> None:
        """Wait until an element that holds `text` is there."""
        self.page.locator(selector).filter(has_text=text).first.wait_for()

    def text(self, selector: str) -> str:
        """Return the text of the first match."""
        return self.page.locator(selector).first.inner_text()

    def wait_for_change(self, selector: str) -> None:
        """Wait until a text is another one; the page's policy bars eval, and with it wait_for_function."""
        before = self.text(selector)

        def has_changed() -> bool:
            self.page.wait_for_timeout(50)  # playwright's events are handled meanwhile
            return self.text(selector) != before

        wait_for(f"{selector} changes from {before!r}", has_changed)

    def picture(self, folder: Path, scheme: str) -> Path:
        """Save a picture of the page in a colour scheme."""
        self.page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
        self.page.locator(f"html[data-theme={scheme}]").wait_for()
        path = folder / f"live-page-{scheme}.png"
        self.page.screenshot(path=path, full_page=True)
        return path


@contextmanager
def tab(url: str) -> Iterator[Tab]:
    """Open `url` in a fresh profile, 1280 wide."""
    if not CHROMIUM.exists():
        missing("Chromium is not installed: apt install chromium")
    if importlib.util.find_spec("playwright") is None:
        missing("playwright is not installed: pip install playwright")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=str(CHROMIUM), args=list(FLAGS))
        page = browser.new_context(viewport={"width": 1280, "height": 900}, color_scheme="light").new_page()
        page.set_default_timeout(PATIENCE_MS)
        opened = Tab(page)
        page.on("request", lambda request: opened.addresses.append(request.url))
        page.on("pageerror", lambda error: opened.complaints.append(str(error)))
        page.on("console", lambda said: opened.complaints.append(said.text) if said.type == "error" else None)
        page.goto(url)
        yield opened
        browser.close()
