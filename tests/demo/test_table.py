"""What the terminal shows: every figure with its provenance and bounds, and no zero for what is not known."""

from io import StringIO

from rich.console import Console

from inferwatt.demo.table import ending, line, render
from inferwatt.snapshot import AccountView, DeviceView, LiveView, ModelView, RequestView, TenantView

DEVICE = DeviceView("cpu", "package", "cpu", "modelled", 0.5, 3.25, 40.0, False)
MODEL = ModelView(
    model_name="m",
    server="s",
    provenance="modelled",
    window_seconds=30.0,
    power_watts=2.5,
    output_tokens_per_second=12.5,
    joules_per_output_token=0.04,
    low_joules_per_output_token=0.02,
    high_joules_per_output_token=0.06,
    energy_joules=8.0,
    prefill_joules=3.0,
    decode_joules=5.0,
    idle_joules=1.5,
    unlisted_joules=0.0,
    systematic_ratio=0.5,
    prompt_tokens=100,
    cached_tokens=50,
    output_tokens=200,
    requests=4,
    open_requests=1,
)
TENANT = TenantView("acme", "modelled", 8.0, 3.5, 12.5, 0.5, 4, 200, 0.04)
REQUEST = RequestView(
    "r",
    "",
    "m",
    "s",
    "acme",
    0.0,
    1.0,
    20,
    None,
    None,
    None,
    None,
    None,
    None,
    None,
    None,
    "request_span",
    "",
    "aborted",
    {},
)


def view(*models: ModelView, devices: tuple[DeviceView, ...] = (DEVICE,)) -> LiveView:
    """Return a live view of one device, one tenant and one request."""
    return LiveView(
        unix_seconds=0.0,
        started_unix_seconds=0.0,
        version="0",
        host="h",
        devices=devices,
        models=models,
        tenants=(TENANT,),
        requests=(REQUEST,),
        accounts=(AccountView("modelled", 3.0, 5.0, 0.0, 1.5, 30.0, 0.5),),
        lacks=(),
    )


def shown(live: LiveView | None, address: str | None = "http://127.0.0.1:9595/") -> list[list[str]]:
    """Return the words of each line of the table."""
    console = Console(file=StringIO(), width=160)
    console.print(render(live, elapsed_seconds=12.0, address=address, ends=ending(20.0)))
    assert isinstance(console.file, StringIO)
    return [row.split() for row in console.file.getvalue().splitlines() if row.strip()]


def test_watts_joules_and_tokens_stand_with_bounds_and_provenance() -> None:
    """Device, model and tenant have each their figure, its bounds, and how it came about."""
    rows = {" ".join(row) for row in shown(view(MODEL))}

    assert "cpu 3.25 W 40.00 J 20.00 to 60.00 modelled, sensor ±50%" in rows
    assert "m 0.0400 J/token (0.0200 to 0.0600) 12.5 2.50 W 8.00 J 1.50 J 4 1 modelled, sensor ±50%" in rows
    assert "acme 8.00 J 3.50 to 12.50 0.0400 200 4 modelled, sensor ±50%" in rows


def test_what_is_not_known_is_a_dash() -> None:
    """A request without joules and tokens shows none, rather than zero."""
    assert ["acme", "aborted", "20/-/-", "-", "-", "-,", "request_span"] in shown(view(MODEL))


def test_the_page_is_named_unless_it_should_not_be() -> None:
    """The address is in the first line, and nowhere with --no-browser-hint."""
    assert shown(view(MODEL))[0][-1] == "http://127.0.0.1:9595/"
    assert not any("page:" in row for row in shown(view(MODEL), address=None))


def test_before_the_first_figures_it_says_that_it_waits() -> None:
    """Neither an agent that has not answered nor one without a device yet shows figures."""
    assert shown(None)[-1] == shown(view(devices=()))[-1] == ["waiting", "for", "the", "first", "figures"]
    assert line(None, elapsed_seconds=1.0).endswith("waiting for the first figures")


def test_a_stale_device_has_no_power() -> None:
    """A device that stopped answering is said to be stale."""
    stale = DeviceView("cpu", "package", "cpu", "modelled", 0.5, None, 40.0, True)

    assert ["cpu", "stale", "40.00", "J"] in [row[:4] for row in shown(view(devices=(stale,)))]


def test_a_line_has_the_same_figures() -> None:
    """Without a terminal each line names devices, models and tenants."""
    text = line(view(MODEL), elapsed_seconds=12.0)

    assert text == (
        "  12 s  cpu 3.25 W modelled ±50% | m 0.0400 J/token (0.0200 to 0.0600) modelled, 12 tokens/s, 4 requests | "
        "acme 8.00 J"
    )
