"""The dashboard *Meter health*: whether the figures of the others can be believed. Data."""

from deploy.grafana.panels import NO_METER, NO_WORK, STEP, Board, Kind, Panel, Query, now, rate

OURS = "and on (job, instance) inferwatt_build_info"
"""Of our agents' processes only: every program's page has `process_*`."""
NO_RECORDS = "No record came: no client with the SDK, no plugin in a server (docs/sdk.md, docs/servers)."
NOT_EXPORTED = "Nothing is sent: no exporter is configured (docs/agent.md)."

READINGS = (
    Panel(
        "Sources that deliver",
        "Yes where a device of the source delivers, no where it was asked to no avail.",
        "bool_yes_no",
        NO_METER,
        (Query(now("inferwatt_source_up"), "{{instance}} {{source}}"),),
        Kind.NUMBERS,
    ),
    Panel(
        "Agents",
        "That Prometheus hears of, by version.",
        "short",
        NO_METER,
        (Query(f"count by (version) ({now('inferwatt_build_info')})", "{{version}}"),),
        Kind.NUMBERS,
    ),
    Panel(
        "Last sent",
        "How long ago an exporter has sent something.",
        "s",
        NOT_EXPORTED,
        (
            Query(
                f"time() - {now('inferwatt_export_last_success_timestamp_seconds')}",
                "{{instance}} {{exporter}}",
                sometimes=True,
            ),
        ),
        Kind.NUMBERS,
    ),
    Panel(
        "The meter's own power",
        "From its share of the CPU; contained in phase other.",
        "watt",
        NO_METER,
        (Query(rate("provenance", "inferwatt_agent_energy_joules_total"), "{{provenance}}"),),
        Kind.NUMBERS,
    ),
    Panel(
        "Readings a second",
        "Taken; and those that failed or came too late.",
        "short",
        NO_METER,
        (
            Query(rate("instance, device", "inferwatt_samples_total"), "{{instance}} {{device}}"),
            Query(
                rate("instance, device", "inferwatt_samples_lost_total"),
                "{{instance}} {{device}}: lost",
                sometimes=True,
            ),
        ),
    ),
    Panel(
        "What happened to the counters",
        "Wraps, resets, stalls, failed reads, a second.",
        "short",
        "Nothing happened to any counter.",
        (
            Query(
                rate("instance, device, kind", "inferwatt_device_events_total"),
                "{{instance}} {{device}} {{kind}}",
                sometimes=True,
            ),
        ),
    ),
)

EVIDENCE = (
    Panel(
        "On what the split rests",
        "Joules a second of ended requests by tier, best first: steps known, rebuilt, a request's span, sums only.",
        "watt",
        NO_WORK,
        (Query(rate("tier, provenance", "inferwatt_tier_energy_joules_total"), "{{tier}} ({{provenance}})"),),
        Kind.STACKED,
    ),
    Panel(
        "Records a second",
        "Of requests and steps: taken, and dropped by reason.",
        "short",
        NO_RECORDS,
        (
            Query(rate("", "inferwatt_records_total"), "taken"),
            Query(rate("reason", "inferwatt_records_dropped_total"), "dropped: {{reason}}", sometimes=True),
        ),
    ),
    Panel(
        "Tokens by records beyond the server's",
        "0 where what clients tell and what the server's own page counts agree.",
        "short",
        "Nothing to compare: it takes records of requests and the server's own page, at rest for three seconds.",
        (
            Query(
                f"sum by (model_name, server, kind) ({now('inferwatt_token_disagreement_tokens')})",
                "{{model_name}} {{server}} {{kind}}",
                sometimes=True,
            ),
        ),
    ),
    Panel(
        "Asking servers for their pages",
        "Scrapes a second, and those that failed.",
        "short",
        "No server with a metrics page was found: inferwatt engines says what was.",
        (
            Query(rate("server", "inferwatt_scrapes_total"), "{{server}}"),
            Query(rate("server, reason", "inferwatt_scrape_failures_total"), "{{server}}: {{reason}}", sometimes=True),
        ),
    ),
)

KEPT = (
    Panel(
        "Ledger: rows",
        "Committed a second, and waiting.",
        "short",
        NO_METER,
        (
            Query(rate("", "inferwatt_ledger_rows_total"), "committed a second"),
            Query(f"sum({now('inferwatt_ledger_pending_rows')})", "waiting"),
        ),
    ),
    Panel(
        "Ledger: size and errors",
        "On disk; commits that failed (right), tried again.",
        "bytes",
        NO_METER,
        (
            Query(now("inferwatt_ledger_size_bytes"), "{{instance}}"),
            Query(
                rate("", "inferwatt_ledger_errors_total"),
                "errors a second",
                sometimes=True,
                right_unit="short",
            ),
        ),
    ),
    Panel(
        "Exports",
        "Batches a second: sent, and not taken by reason.",
        "short",
        NOT_EXPORTED,
        (
            Query(rate("exporter", "inferwatt_exports_total"), "{{exporter}}", sometimes=True),
            Query(
                rate("exporter, reason", "inferwatt_export_failures_total"), "{{exporter}}: {{reason}}", sometimes=True
            ),
        ),
    ),
    Panel(
        "Exports: waiting and lost",
        "Requests that wait for an exporter; and what it lost, a second, by reason.",
        "short",
        NOT_EXPORTED,
        (
            Query(
                f"sum by (exporter) ({now('inferwatt_export_queued_requests')})",
                "{{exporter}}: waiting",
                sometimes=True,
            ),
            Query(
                rate("exporter, reason", "inferwatt_export_dropped_total"), "{{exporter}}: {{reason}}", sometimes=True
            ),
        ),
    ),
)

ITSELF = (
    Panel(
        "What the meter itself takes: CPU",
        "As part of one core.",
        "percentunit",
        NO_METER,
        (Query(f"rate({now('process_cpu_seconds_total')}[{STEP}]) {OURS}", "{{instance}}"),),
    ),
    Panel(
        "What the meter itself takes: memory",
        "Resident.",
        "bytes",
        NO_METER,
        (Query(f"{now('process_resident_memory_bytes')} {OURS}", "{{instance}}"),),
    ),
)

METER = Board(
    "meter",
    "inferwatt: meter health",
    "Whether the figures can be believed: what is read, on what the split rests, what is kept and sent on.",
    (("Readings", READINGS), ("Evidence", EVIDENCE), ("Kept and sent on", KEPT), ("The meter itself", ITSELF)),
)
