"""The `process_*` families that dashboards look for, read by hand from /proc/self; none where there is no /proc."""

import os
from pathlib import Path


def read_process(proc: Path = Path("/proc")) -> dict[str, float]:
    """Return this process's families by name, in the wire's units; empty where `proc` is not Linux's."""
    try:
        # The name in parentheses may hold spaces and parentheses: the fields begin after the last one (man 5 proc).
        fields = (proc / "self/stat").read_text().rpartition(")")[2].split()
        boot_seconds = _boot_unix_seconds((proc / "stat").read_text())
        fds = len(os.listdir(proc / "self/fd"))
    except OSError:
        return {}
    ticks = os.sysconf("SC_CLK_TCK")
    families = {
        "process_cpu_seconds_total": (int(fields[11]) + int(fields[12])) / ticks,
        "process_resident_memory_bytes": int(fields[21]) * os.sysconf("SC_PAGE_SIZE"),
        "process_virtual_memory_bytes": int(fields[20]),
        "process_open_fds": fds,
    }
    if boot_seconds is not None:
        families["process_start_time_seconds"] = boot_seconds + int(fields[19]) / ticks
    return families | _limits()


def _limits() -> dict[str, float]:
    import resource  # not on Windows

    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return {} if limit == resource.RLIM_INFINITY else {"process_max_fds": limit}


def _boot_unix_seconds(stat: str) -> int | None:
    times = [line.split()[1] for line in stat.splitlines() if line.startswith("btime ")]
    return int(times[0]) if times else None
