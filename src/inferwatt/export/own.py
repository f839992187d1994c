"""The metrics of inferwatt itself: how its sources, its ledger, its exporters and its process do, as data. Pure."""

from inferwatt.export.metric import MICRO, counter, gauge, info

_MODEL = ("model_name", "server")
_HEALTH = (
    gauge("inferwatt_source_up", "1 if a device of the source delivers, 0 if it was asked to no avail.", ("source",)),
    counter("inferwatt_samples_total", "Readings taken from the device.", ("device",)),
    counter("inferwatt_samples_lost_total", "Readings that failed or came too late to be taken.", ("device",)),
    counter(
        "inferwatt_device_events_total",
        "What happened to the device's energy counter: wrap, reset, stall, read_failure and others.",
        ("device", "kind"),
    ),
    counter("inferwatt_windows_late_total", "Windows that were closed after their time limit."),
    counter("inferwatt_records_total", "Records of requests and steps that were accepted."),
    counter(
        "inferwatt_records_dropped_total", "Records that were malformed, too late or too many, by reason.", ("reason",)
    ),
    counter("inferwatt_scrapes_total", "Scrapes of an inference server's own metrics page.", ("server",)),
    counter(
        "inferwatt_scrape_failures_total",
        "Scrapes of an inference server's own metrics page that failed, by reason.",
        ("server", "reason"),
    ),
    gauge(
        "inferwatt_token_disagreement_tokens",
        "Tokens by which the records of requests exceed what the server's own metrics page counts; 0 where they agree.",
        (*_MODEL, "kind"),
        "tokens",
    ),
    counter("inferwatt_ledger_rows_total", "Rows committed to the ledger."),
    counter("inferwatt_ledger_errors_total", "Commits to the ledger that failed; their rows are kept and tried again."),
    counter("inferwatt_ledger_set_aside_total", "Ledger files that were corrupt and set aside."),
    gauge("inferwatt_ledger_pending_rows", "Rows that wait to be committed to the ledger."),
    gauge("inferwatt_ledger_size_bytes", "Size of the ledger on disk.", (), "bytes"),
    counter(
        "inferwatt_agent_energy_joules_total",
        "Energy of inferwatt itself, from its share of the host's CPU time; contained in phase other.",
        ("provenance",),
        "joules",
        MICRO,
    ),
    counter("inferwatt_exports_total", "Batches of figures that an exporter has sent.", ("exporter",)),
    counter(
        "inferwatt_export_failures_total",
        "Batches that were not taken, by reason; most are tried again.",
        ("exporter", "reason"),
    ),
    counter(
        "inferwatt_export_dropped_total",
        "Requests and points that an exporter lost, by reason: refused for good, too many, or late.",
        ("exporter", "reason"),
    ),
    gauge("inferwatt_export_queued_requests", "Requests that wait for an exporter.", ("exporter",)),
    gauge(
        "inferwatt_export_last_success_timestamp_seconds",
        "When an exporter last sent something, since the Unix epoch.",
        ("exporter",),
        "seconds",
    ),
    gauge("inferwatt_live_readers", "Readers of the live stream."),
    counter("inferwatt_live_readers_dropped_total", "Readers of the live stream that were dropped: they did not read."),
    info("inferwatt_build_info", "The version of inferwatt and of its Python.", ("version", "python_version")),
)

_PROCESS = (
    counter("process_cpu_seconds_total", "CPU time of this process, user and system.", (), "seconds"),
    gauge("process_resident_memory_bytes", "Resident memory of this process.", (), "bytes"),
    gauge("process_virtual_memory_bytes", "Virtual memory of this process.", (), "bytes"),
    gauge("process_start_time_seconds", "Start of this process since the Unix epoch.", (), "seconds"),
    gauge("process_open_fds", "Open file descriptors of this process."),
    gauge("process_max_fds", "Limit of open file descriptors of this process."),
)

OWN = (*_HEALTH, *_PROCESS)
