"""The command `inferwatt simulate`; it imports what it needs when it runs, as the other commands do."""

from pathlib import Path

import click

LOADS = ("chat", "light", "mixed", "mixed_light", "long", "bursty", "prefixes", "tenants", "crowd", "leavers", "azure")
"""The names of inferwatt.simulate.loads, which is loaded only when it is used; a test compares."""
SECONDS = 60.0
_FOLDER = click.Path(file_okay=False, path_type=Path)


@click.command(
    "simulate",
    short_help="A simulated server: a recording with its truth, or a live page.",
    epilog="Example: inferwatt simulate --live",
)
@click.option("--load", type=click.Choice(LOADS), default="tenants", show_default=True, help="What is asked for.")
@click.option("--seconds", type=click.FloatRange(0.1, 86400), help=f"How long; {SECONDS:g} for a recording.")
@click.option("--seed", type=int, default=1, show_default=True, help="Equal seed, equal recording.")
@click.option("--out", type=_FOLDER, help="Where the recording goes; with --live, where the device is written.")
@click.option("--live", is_flag=True, help="Feed a live agent instead: one of its own, or with --out one that runs.")
@click.option("--listen", default="127.0.0.1:9595", show_default=True, metavar="HOST:PORT", help="Of its own agent.")
def simulate_command(load: str, seconds: float | None, seed: int, out: Path | None, live: bool, listen: str) -> int:
    """Simulate an inference server and its meters, with known truth; no joule of it is of any hardware.

    Without --live a recording for `inferwatt replay` is written, and truth.json: what each request truly used. With
    --live a simulated server works before a live agent until Ctrl-C, so that page and metrics can be tried without a
    GPU: every figure there has the provenance `simulated`.
    """
    if live:
        from inferwatt import simulating_live

        return simulating_live.run(simulating_live.Live(load, seed, listen, out, seconds))
    if out is None:
        raise click.UsageError("a recording needs --out FOLDER (or: --live)")
    from inferwatt import simulating_disk

    for line in simulating_disk.record(out, load=load, seconds=seconds or SECONDS, seed=seed):
        click.echo(line)
    return 0
