"""The dashboard *Hardware*: what each device draws and how it is. Data."""

from deploy.grafana.panels import NO_METER, Board, Kind, Panel, Query, gained, now, rate

DEVICES = "inferwatt_device_energy_joules_total"
DEVICE = "{{instance}} {{device}}"
KNOWN = f"{DEVICE} ({{{{provenance}}}})"
NO_TELLING = "No device here tells it: GPUs do (docs/sources), a CPU by its counter or by a model does not."

ENERGY = (
    Panel(
        "Power by device",
        "By its own counter, or by the source that the provenance names.",
        "watt",
        NO_METER,
        (Query(rate("instance, device, provenance", DEVICES), KNOWN),),
        Kind.STACKED,
    ),
    Panel(
        "Energy by device",
        "In the time that is shown.",
        "watth",
        NO_METER,
        (Query(f"sort_desc({gained('instance, device, provenance', DEVICES)} / 3600)", KNOWN),),
        Kind.BARS,
    ),
    Panel(
        "How far off it can be",
        "The 90% bound of the error that all readings of a device share, such as a sensor's gain: it adds up linearly.",
        "percentunit",
        NO_METER,
        (Query(now("inferwatt_device_systematic_uncertainty_ratio"), KNOWN),),
    ),
    Panel(
        "Energy of gaps",
        "Used while reads failed or were lost, contained in the device's power: its sum is right, its course unknown.",
        "watt",
        f"No gap, so far. {NO_METER}",
        (
            Query(
                rate("instance, device, provenance", "inferwatt_device_bridged_energy_joules_total"),
                KNOWN,
                sometimes=True,
            ),
        ),
    ),
)

STATE = (
    Panel(
        "Utilization",
        "Which part of its capacity was in use.",
        "percentunit",
        NO_TELLING,
        (Query(now("inferwatt_device_utilization_ratio"), DEVICE, sometimes=True),),
    ),
    Panel(
        "Temperature",
        "Of the device.",
        "celsius",
        NO_TELLING,
        (Query(now("inferwatt_device_temperature_celsius"), DEVICE, sometimes=True),),
    ),
    Panel(
        "Clock",
        "Of the device's cores.",
        "hertz",
        NO_TELLING,
        (Query(now("inferwatt_device_clock_hertz"), DEVICE, sometimes=True),),
    ),
    Panel(
        "Power limit",
        "In force on the device.",
        "watt",
        NO_TELLING,
        (Query(now("inferwatt_device_power_limit_watts"), DEVICE, sometimes=True),),
    ),
    Panel(
        "Throttled",
        "Which part of the time, by reason.",
        "percentunit",
        f"Nothing was throttled. Or: {NO_TELLING}",
        (
            Query(
                rate("instance, device, reason", "inferwatt_device_throttled_seconds_total"),
                f"{DEVICE} {{{{reason}}}}",
                sometimes=True,
            ),
        ),
    ),
    Panel(
        "How often a counter moves",
        "Time between two moves, as seen: what is shorter cannot be told apart by measuring.",
        "s",
        "No device has a counter that moves at times of its own.",
        (Query(now("inferwatt_device_update_period_seconds"), DEVICE, sometimes=True),),
    ),
)

INVENTORY = (
    Panel(
        "Devices",
        "What is metered, and by which driver.",
        "none",
        NO_METER,
        (Query(now("inferwatt_device_info")),),
        Kind.TABLE,
    ),
    Panel(
        "Inference servers",
        "What was found, and where it runs.",
        "none",
        "No server was found: inferwatt engines says where it was looked for.",
        (Query(now("inferwatt_server_info")),),
        Kind.TABLE,
    ),
)

HARDWARE = Board(
    "hardware",
    "inferwatt: hardware",
    "What each device draws, how sure that is, and how the device is.",
    (("Energy", ENERGY), ("State", STATE), ("What there is", INVENTORY)),
)
