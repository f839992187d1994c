"""The command `inferwatt print`: what to paste into Prometheus, Kubernetes, Grafana or Datadog."""

from typing import Any

import click

_KINDS = ("prometheus-config", "prometheus-rules", "servicemonitor", "grafana", "datadog-dashboard", "datadog-monitors")


@click.command(
    "print",
    short_help="What to paste into Prometheus, Kubernetes, Grafana or Datadog.",
    epilog="Example: inferwatt print prometheus-config --target node1:9595",
)
@click.argument("what", type=click.Choice(_KINDS), metavar="WHAT")
@click.option("--target", "targets", multiple=True, metavar="HOST:PORT", help="An agent to scrape; as often as needed.")
@click.option("--token-file", default="", metavar="FILE", help="Where Prometheus finds the agents' token.")
@click.option("--release", default="", metavar="NAME", help="Of kube-prometheus-stack: it ignores what is not its own.")
@click.option("--budget", "budgets", multiple=True, metavar="TENANT=KWH", help="Energy of 30 days, for the alerts.")
@click.option("--runbooks", metavar="URL", help="Where your copy of docs/runbooks is served.")
@click.option("--board", default="overview", show_default=True, help="overview, models, tenants, hardware or meter.")
def print_command(what: str, **options: Any) -> None:  # noqa: ANN401 - click passes what the options above declare
    """Print the text to paste into another system.

    WHAT is prometheus-config, prometheus-rules, servicemonitor, grafana, datadog-dashboard or datadog-monitors.
    With --release, prometheus-rules is a PrometheusRule for the operator. A dashboard goes into Grafana's Import.
    """
    from inferwatt.export import paste

    click.echo(paste.text_of(what, paste.Options(**options)), nl=False)
