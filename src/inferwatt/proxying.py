"""The command `inferwatt gateway`."""

from pathlib import Path

import click

from inferwatt.errors import ConfigError

_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command(
    "gateway",
    short_help="A proxy that tells the energy with every answer.",
    epilog="Example: inferwatt gateway --upstream http://127.0.0.1:8080",
)
@click.option("--config", type=_FILE, help="TOML file; `inferwatt config --defaults` prints one.")
@click.option("--listen", metavar="HOST:PORT", help="Where clients call it.")
@click.option("--upstream", "urls", multiple=True, metavar="URL", help="A server to stand before; as often as needed.")
@click.option("--embed/--no-embed", default=None, help="Put the inferwatt object into answers, or leave them alone.")
@click.option("--socket", type=_FILE, help="The agent's Unix socket.")
def gateway_command(
    config: Path | None, listen: str | None, urls: tuple[str, ...], embed: bool | None, socket: Path | None
) -> None:
    """Stand before inference servers, pass calls on, and say with every answer what energy it took.

    OpenAI's, Anthropic's, Azure's, TGI's and Ollama's protocols; every other path is closed. The joules come from the
    agent of this machine. Ctrl-C or SIGTERM ends it.
    """
    from inferwatt.settings import configuration

    flags: dict[str, object] = {"gateway.listen": listen, "gateway.embed": embed}
    if urls:
        flags["gateway.upstream"] = [{"name": f"upstream-{place}", "url": url} for place, url in enumerate(urls, 1)]
    settings = configuration(config, flags).value
    try:
        from inferwatt.gateway.server import Serving
    except ImportError as exc:
        what = f"the gateway needs the package {exc.name}"
        raise ConfigError(what, where="inferwatt gateway", fix="pip install 'inferwatt[gateway]'") from None
    serving = Serving(settings.gateway, str(socket or settings.agent.socket), settings.estimates.carbon)
    names = ", ".join(one.url for one in settings.gateway.upstream)
    click.echo(f"inferwatt gateway: {serving.url} before {names}", err=True)
    serving.run()
