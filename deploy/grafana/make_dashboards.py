"""Writes dashboards/*.json with Grafana's own library; a test compares.

`.venv-observability/bin/python -m deploy.grafana.make_dashboards` (`make test-observability` makes that environment).
"""

from pathlib import Path
from typing import Any, Final

from deploy.grafana.hardware import HARDWARE
from deploy.grafana.meter import METER
from deploy.grafana.models import MODELS
from deploy.grafana.overview import OVERVIEW
from deploy.grafana.panels import Board, Kind, Panel, Query
from deploy.grafana.tenants import TENANTS
from grafana_foundation_sdk.builders import bargauge, common, dashboard, heatmap, prometheus, stat, table, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import (
    LegendDisplayMode,
    LegendPlacement,
    SortOrder,
    StackingMode,
    TooltipDisplayMode,
    VizOrientation,
)
from grafana_foundation_sdk.models.dashboard import (
    Dashboard,
    DashboardCursorSync,
    DashboardLinkType,
    DataSourceRef,
    DataTransformerConfig,
    DynamicConfigValue,
    VariableOption,
    VariableRefresh,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

FOLDER: Final = Path(__file__).with_name("dashboards")
BOARDS: Final = (OVERVIEW, MODELS, TENANTS, HARDWARE, METER)
SOURCE: Final = DataSourceRef(type_val="prometheus", uid="${datasource}")
TAG: Final = "inferwatt"
SIZES: Final = {Kind.NUMBERS: (6, 4), Kind.TABLE: (24, 7)}
"""Columns of 24, and lines."""
HALF: Final = (12, 8)
LAST: Final = frozenset({Kind.BARS, Kind.TABLE})
"""Drawn of what holds at the end of the time, not of its course."""
HIDDEN: Final = ("Time", "Value", "__name__", "job")
"""Columns of a table that say nothing."""


def text_of(board: Board) -> str:
    """Return a dashboard as JSON."""
    made = (
        dashboard.Dashboard(board.title)
        .uid(f"inferwatt-{board.name}")
        .description(board.what)
        .tags([TAG])
        .refresh("30s")
        .time("now-1h", "now")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .link(_others())
        .with_variable(dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
        .with_variable(_choice("instance", "Agent", "label_values(inferwatt_build_info, instance)"))
    )
    if board.by_model:
        made = made.with_variable(_choice("model", "Model", "label_values(inferwatt_energy_joules_total, model_name)"))
    if board.priced:
        made = made.with_variable(dashboard.TextBoxVariable("price").label("Price of a kWh").default_value("0"))
    number = 0
    for heading, panels in board.rows:
        number += 1
        made = made.with_row(dashboard.Row(heading).id(number))
        for panel in panels:
            number += 1
            made = made.with_panel(_panel(panel).id(number))
    return encoded(made.build())


def encoded(made: Dashboard) -> str:
    """Return a dashboard of Grafana's library as it is kept."""
    return f"{JSONEncoder(sort_keys=True, indent=2).encode(made)}\n"


def _others() -> dashboard.DashboardLink:
    """Return a menu of our other dashboards, which keeps the time and what was chosen."""
    link = dashboard.DashboardLink("inferwatt").type(DashboardLinkType.DASHBOARDS).tags([TAG])
    return link.as_dropdown(True).include_vars(True).keep_time(True)


def _choice(name: str, label: str, query: str) -> dashboard.QueryVariable:
    """Return a list to choose from: all at first, as long as nothing is chosen."""
    made = dashboard.QueryVariable(name).label(label).query(query).datasource(SOURCE)
    made = made.refresh(VariableRefresh.ON_TIME_RANGE_CHANGED).multi(True).include_all(True).all_value(".*")
    return made.current(VariableOption(selected=True, text="All", value="$__all"))


def _panel(panel: Panel) -> Any:  # noqa: ANN401 - the library's builders have no type in common
    """Return one panel."""
    made = _drawn(panel.kind).title(panel.title).description(panel.what).datasource(SOURCE)
    made = made.unit(panel.unit).no_value(panel.absent)
    width, height = SIZES.get(panel.kind, HALF)
    made = made.span(width).height(height)
    for place, query in enumerate(panel.queries):
        name = chr(ord("A") + place)
        made = made.with_target(_target(query, panel.kind, name))
        if query.right_unit:
            on_the_right = [
                DynamicConfigValue("unit", query.right_unit),
                DynamicConfigValue("custom.axisPlacement", "right"),
            ]
            made = made.override_by_query(name, on_the_right)
    return made


def _drawn(kind: Kind) -> Any:  # noqa: ANN401 - as above
    """Return a panel that draws as is asked."""
    last = common.ReduceDataOptions().calcs(["lastNotNull"])
    if kind is Kind.NUMBERS:
        return stat.Panel().reduce_options(last)
    if kind is Kind.BARS:
        return bargauge.Panel().reduce_options(last).orientation(VizOrientation.HORIZONTAL).min(0)
    if kind is Kind.HEAT:
        return heatmap.Panel().calculate(False).y_axis(heatmap.YAxisConfig().unit("joule"))
    if kind is Kind.TABLE:
        organize = DataTransformerConfig(id_val="organize", options={"excludeByName": dict.fromkeys(HIDDEN, True)})
        return table.Panel().show_header(True).with_transformation(organize)
    legend = common.VizLegendOptions().display_mode(LegendDisplayMode.LIST).placement(LegendPlacement.BOTTOM)
    tooltip = common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI).sort(SortOrder.DESCENDING)
    lines = timeseries.Panel().legend(legend.show_legend(True)).tooltip(tooltip).axis_soft_min(0)
    if kind is Kind.STACKED:
        return (
            lines.fill_opacity(60).line_width(0).stacking(common.StackingConfig().mode(StackingMode.NORMAL).group("A"))
        )
    return lines.fill_opacity(10)


def _target(query: Query, kind: Kind, name: str) -> prometheus.Dataquery:
    """Return a query as its panel asks it."""
    made = prometheus.Dataquery().expr(query.expr).legend_format(query.legend).ref_id(name).datasource(SOURCE)
    made = made.instant() if kind in LAST else made.range()
    made = made.exemplar(kind is Kind.LINES and "_bucket" in query.expr)
    if kind is Kind.TABLE:
        return made.format(PromQueryFormat.TABLE)
    return made.format(PromQueryFormat.HEATMAP) if kind is Kind.HEAT else made


def main() -> None:
    """Write them all."""
    for board in BOARDS:
        (FOLDER / f"inferwatt-{board.name}.json").write_text(text_of(board), encoding="utf-8")


if __name__ == "__main__":
    main()
