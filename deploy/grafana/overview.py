"""The dashboard *Overview*: what is used, where it goes, what it buys. Data."""

from deploy.grafana.panels import (
    MODEL_LINE,
    NO_METER,
    NO_PODS,
    NO_WORK,
    Board,
    Kind,
    Panel,
    Query,
    equal,
    gained,
    per,
    rate,
)

from inferwatt.export.catalog import UNATTRIBUTED
from inferwatt.export.rules import ENERGY, IDLE, WORK

DEVICES = "inferwatt_device_energy_joules_total"
OUTPUT = "inferwatt_output_tokens_total"
OF_ALL = rate("provenance", DEVICES)

NUMBERS = (
    Panel(
        "Power",
        "What all devices draw, by where the figure comes from.",
        "watt",
        NO_METER,
        (Query(OF_ALL, "{{provenance}}"),),
        Kind.NUMBERS,
    ),
    Panel(
        "Energy in this time",
        "Of all devices, in the time that is shown.",
        "watth",
        NO_METER,
        (Query(f"{gained('provenance', DEVICES)} / 3600", "{{provenance}}"),),
        Kind.NUMBERS,
    ),
    Panel(
        "Joules per output token",
        "Of all models together: their work, idle left out, divided by output tokens.",
        "joule",
        NO_WORK,
        (Query(per(rate("provenance", ENERGY, WORK), rate("", OUTPUT), on=""), "{{provenance}}"),),
        Kind.NUMBERS,
    ),
    Panel(
        "Output tokens a second",
        "Of all models together.",
        "si:tokens/s",
        NO_WORK,
        (Query(rate("", OUTPUT), "tokens"),),
        Kind.NUMBERS,
    ),
)

USED = (
    Panel(
        "Where every joule goes",
        "Phases are disjoint: their sum is what the devices draw. idle_resident is idle while a model is loaded, other "
        "are processes of no known server, unattributed is what nobody can be named for.",
        "watt",
        NO_METER,
        (Query(rate("phase, provenance", ENERGY), "{{phase}} ({{provenance}})"),),
        Kind.STACKED,
    ),
    Panel(
        "Power by model",
        "The work and the idle time of each model.",
        "watt",
        NO_WORK,
        (Query(rate("model_name, provenance", ENERGY, 'model_name!=""'), MODEL_LINE),),
        Kind.STACKED,
    ),
    Panel(
        "Idle and unattributed",
        "Which part of the energy was for no work, and for which part nobody can be named.",
        "percentunit",
        NO_METER,
        (
            Query(f"{rate('provenance', ENERGY, IDLE)} / ({OF_ALL} > 0)", "idle ({{provenance}})"),
            Query(
                f"{rate('provenance', ENERGY, equal('phase', UNATTRIBUTED))} / ({OF_ALL} > 0)",
                "unattributed ({{provenance}})",
                sometimes=True,
            ),
        ),
    ),
    Panel(
        "Power by device",
        "Of each device of each machine.",
        "watt",
        NO_METER,
        (Query(rate("instance, device, provenance", DEVICES), "{{instance}} {{device}} ({{provenance}})"),),
    ),
    Panel(
        "Power by pod",
        "The work and the idle time of the models that it serves.",
        "watt",
        NO_PODS,
        (
            Query(
                rate("namespace, pod, container, provenance", ENERGY, 'pod!=""'),
                "{{namespace}}/{{pod}} {{container}} ({{provenance}})",
                sometimes=True,
            ),
        ),
        Kind.STACKED,
    ),
)

BOUGHT = (
    Panel(
        "Joules per output token, by model",
        "A model's work divided by its output tokens; idle left out.",
        "joule",
        NO_WORK,
        (Query(per(rate("model_name, provenance", ENERGY, WORK), rate("model_name", OUTPUT)), MODEL_LINE),),
    ),
    Panel(
        "Requests a second",
        "That have ended, by model and outcome.",
        "reqps",
        NO_WORK,
        (Query(rate("model_name, outcome", "inferwatt_requests_total"), "{{model_name}} {{outcome}}"),),
        Kind.STACKED,
    ),
)

OVERVIEW = Board(
    "overview",
    "inferwatt: overview",
    "What the machines use, where it goes and what it buys.",
    (("Now", NUMBERS), ("What is used", USED), ("What it buys", BOUGHT)),
)
