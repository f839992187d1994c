"""The live page in a real Chromium, fed by a stand-in for the agent (stand_in.py)."""

import dataclasses
import importlib.util
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pytest

from inferwatt import snapshot
from tests.bundle import bundle
from tests.web import stand_in
from tests.web.stand_in import NOW_UNIX_SECONDS, StandIn, view

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-sync",
    "--no-first-run",
)
SCREENS = {
    "light": (1280, 900, "light"),
    "dark": (1280, 900, "dark"),
    "tablet": (768, 1024, "light"),
    "narrow": (360, 800, "light"),
    "narrow-dark": (360, 800, "dark"),
}


def missing(what: str) -> NoReturn:
    """Skip the test, or fail it in CI, where the browser must be there."""
    if os.environ.get("CI"):
        pytest.fail(what)
    pytest.skip(what)


@dataclasses.dataclass
class Watched:
    """A tab, and all that must not happen in it."""

    page: "Page"
    addresses: list[str]
    complaints: list[str]

    def wait(self, selector: str, text: str) -> None:
        """Wait until an element holds a text; Playwright's wait_for_function would need eval, which the policy bars."""
        self.page.locator(selector).filter(has_text=text).first.wait_for()

    def text(self, selector: str) -> str:
        """The text of the first match, spaces of all kinds made plain."""
        return re.sub(r"\s+", " ", self.page.locator(selector).first.inner_text()).strip()


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    """One Chromium for all tests here."""
    if not CHROMIUM.exists():
        missing("Chromium is not installed: apt install chromium")
    if importlib.util.find_spec("playwright") is None:
        missing("playwright is not installed: pip install playwright")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=str(CHROMIUM), args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture
def server() -> Iterator[StandIn]:
    """The stand-in, serving the built page."""
    bundle()
    stand = StandIn()
    stand.start()
    yield stand
    stand.stop()


@pytest.fixture
def context(browser: "Browser") -> Iterator["BrowserContext"]:
    """A fresh profile."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, color_scheme="light")
    yield context
    context.close()


@pytest.fixture
def tab(context: "BrowserContext", server: StandIn) -> Iterator[Watched]:
    """A tab on the page; at the end nothing may have gone wrong in it, and no other host been asked."""
    watched = open_tab(context, server)
    yield watched
    assert watched.complaints == []
    assert [each for each in watched.addresses if not each.startswith(server.url)] == []


def open_tab(context: "BrowserContext", server: StandIn) -> Watched:
    """Open the page, on a clock that can be put forward, and listen to what its tab says and asks for."""
    page = context.new_page()
    page.clock.install()
    page.set_default_timeout(15_000)
    watched = Watched(page, [], [])
    page.on("request", lambda request: watched.addresses.append(request.url))
    page.on("pageerror", lambda error: watched.complaints.append(str(error)))
    page.on("console", lambda said: watched.complaints.append(said.text) if said.type in ("error", "warning") else None)
    page.goto(server.url)
    page.wait_for_selector("main")
    return watched


@pytest.mark.real
def test_figures_arrive_without_reload(tab: Watched, server: StandIn) -> None:
    """What the agent pushes is on the page, with unit, bounds and provenance, and the next push replaces it."""
    server.push(view())
    tab.page.wait_for_selector(".models .figure")

    assert tab.text(".models .hero") == "1.94 J/token between 1.66–2.24"
    assert tab.text(".models .origin") == "±5% measured"
    assert tab.text(".totals") == "801 W ±5% measured 96.2 W ±40% modelled"
    assert tab.text(".tenants tbody tr") == "search 1.25 MJ between 1.15–1.37 12.8 J 412 ±5% measured"
    assert "sudo chmod a+r" in tab.text(".lacks")

    power = dataclasses.replace(stand_in.DEVICES[0], power_watts=0.25)
    server.push(view(NOW_UNIX_SECONDS + 1, devices=[power]))
    tab.wait(".totals", "0.250")

    assert [each for each in tab.addresses if each.endswith("/v1/live")] == [f"{server.url}/v1/live"]


@pytest.mark.real
def test_an_unknown_figure_is_a_dash(tab: Watched, server: StandIn) -> None:
    """What is not known is a dash that is read out as unknown, never a zero."""
    server.push(view(models=stand_in.MODELS[-1:], devices=stand_in.DEVICES[-1:]))
    tab.page.wait_for_selector(".models .who")

    assert tab.text(".models .hero") == "– unknown"
    assert tab.text(".totals") == "– unknown no device answers"
    assert tab.text(".devices td") == "– unknown"


@pytest.mark.real
def test_computed_joules_look_unlike_metered_ones(tab: Watched, server: StandIn) -> None:
    """A modelled figure is hatched and a measured one is not; the two are never added up."""
    server.push(view())
    tab.page.wait_for_selector(".models .figure")
    fills = tab.page.locator(".totals .swatch").evaluate_all(
        "all => all.map(each => getComputedStyle(each).backgroundImage)"
    )

    assert [each.partition("(")[0] for each in fills] == ["none", "repeating-linear-gradient"]


@pytest.mark.real
def test_the_page_says_since_when_it_is_cut_off(tab: Watched, server: StandIn) -> None:
    """Without the agent the last figures stay, marked as such; with it again, they go on by themselves."""
    server.push(view())
    tab.page.wait_for_selector(".models .figure")
    server.stop()
    tab.page.wait_for_selector(".state p")

    assert re.match(r"Disconnected since \d\d:\d\d:\d\d\. .* Trying again\.", tab.text("[role=status]"))
    assert tab.text(".models .hero") == "1.94 J/token between 1.66–2.24"

    server.start()
    server.push(view(NOW_UNIX_SECONDS + 60, models=stand_in.MODELS[2:3]))
    tab.page.wait_for_selector(".state p", state="detached")
    tab.wait(".models .hero", "0.113")
    tab.complaints[:] = [each for each in tab.complaints if "ERR_" not in each]  # the browser's own note of the cut


@pytest.mark.real
def test_silence_is_not_taken_for_life(tab: Watched, server: StandIn) -> None:
    """An agent that is connected but has nothing new is told apart from one that is gone, and from a live one."""
    server.push(view())
    tab.page.wait_for_selector(".models .figure")
    tab.page.clock.fast_forward("00:09")
    tab.page.wait_for_selector(".state p")

    assert tab.text("[role=status]").startswith("Connected, but without new figures since ")

    server.push(view(NOW_UNIX_SECONDS + 9))
    tab.page.wait_for_selector(".state p", state="detached")


@pytest.mark.real
def test_names_from_engines_stay_text(tab: Watched, server: StandIn) -> None:
    """Markup in the name of a model, tenant, tag, device or lack is shown as it is and makes no element."""
    hostile = '<script>document.title="taken"</script><img src=x onerror=alert(1)>'
    server.push(
        view(
            devices=[stand_in.device(hostile, hostile, hostile, 10.0)],
            models=[stand_in.model(hostile, hostile, "measured", 1.0, 0.05)],
            tenants=[stand_in.tenant(hostile, 10.0), stand_in.tenant("__proto__", 10.0)],
            requests=[stand_in.request(0, model_name=hostile, tenant="constructor", tags={hostile: hostile})],
            lacks=[snapshot.Lack(hostile, hostile, hostile)],
        )
    )
    tab.page.wait_for_selector(".requests tbody tr")

    assert tab.text(".models .name") == hostile
    assert tab.text(".requests .tenant .name") == "constructor"
    assert tab.page.locator("#page script, #page img").count() == 0
    assert tab.page.title() == "inferwatt"


@pytest.mark.real
def test_a_reader_without_token_is_told(tab: Watched, server: StandIn) -> None:
    """Where tenants and requests are withheld, the page says so, with the command that shows them."""
    server.push(view(tenants=[], requests=[]), restricted=True)
    tab.page.wait_for_selector(".tenants .command")

    assert tab.text(".tenants code") == "inferwatt requests"
    assert tab.page.locator(".requests").count() == 0


@pytest.mark.real
def test_a_moment_is_read_by_keyboard(tab: Watched, server: StandIn) -> None:
    """Arrow keys on the chart put an earlier moment into the table of devices; Escape goes back to now."""
    earlier = dataclasses.replace(stand_in.DEVICES[0], power_watts=123.0)
    server.push(view(NOW_UNIX_SECONDS - 1, devices=[earlier]))
    tab.wait(".devices td", "123")  # a page that connects late is told the last push alone
    server.push(view(devices=stand_in.DEVICES[:1]))
    tab.wait(".devices td", "412")
    tab.page.focus(".plot")
    tab.page.keyboard.press("ArrowLeft")
    tab.wait(".devices td", "123")

    assert re.fullmatch(r"at \d\d:\d\d:\d\d", tab.text(".power .note"))

    tab.page.keyboard.press("Escape")
    tab.wait(".devices td", "412")


@pytest.mark.real
def test_choices_are_kept(tab: Watched, context: "BrowserContext", server: StandIn) -> None:
    """Theme and unit, once chosen, hold in the next tab too."""
    server.push(view())
    tab.page.get_by_role("button", name="dark").click()
    tab.page.get_by_role("button", name="Wh").click()
    tab.page.wait_for_selector("[data-theme=dark]")
    again = open_tab(context, server)
    again.page.wait_for_selector(".models .figure")

    assert again.page.locator("html").get_attribute("data-theme") == "dark"
    assert again.text(".models .hero") == "539 µWh/token between 461–622"


@pytest.mark.real
def test_held_requests_stand_still(tab: Watched, server: StandIn) -> None:
    """Held, the list of requests can be read while new ones come; let go, it shows them."""
    server.push(view(requests=[stand_in.request(0, model_name="first")]))
    tab.page.wait_for_selector(".requests tbody tr")
    tab.page.get_by_role("button", name="Hold").click()
    server.push(view(NOW_UNIX_SECONDS + 1, requests=[stand_in.request(1, model_name="second")], lacks=[]))
    tab.page.wait_for_selector(".lacks .empty")

    assert tab.text(".requests .name") == "first"

    tab.page.get_by_role("button", name="Go on").click()
    tab.wait(".requests .name", "second")


@pytest.mark.real
@pytest.mark.parametrize("screen", SCREENS)
def test_it_fits_every_screen(browser: "Browser", server: StandIn, tmp_path: Path, screen: str) -> None:
    """From a telephone to a desk, in light and dark, nothing is wider than the screen; a picture is left to look at."""
    width, height, scheme = SCREENS[screen]
    context = browser.new_context(
        viewport={"width": width, "height": height}, color_scheme="dark" if scheme == "dark" else "light"
    )
    tab = open_tab(context, server)
    server.push(*stand_in.minutes(320))
    tab.page.wait_for_selector(".models .figure")
    tab.page.wait_for_selector(".plot canvas")
    tab.page.screenshot(path=tmp_path / f"{screen}.png", full_page=True)
    too_wide = tab.page.evaluate("document.documentElement.scrollWidth - innerWidth")
    theme = tab.page.locator("html").get_attribute("data-theme")
    context.close()

    assert (too_wide, theme, tab.complaints) == (0, scheme, [])
