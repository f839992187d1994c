"""What the gateway adds to a call, beside LiteLLM's proxy, a minimal proxy and a direct call: same machine, same run.

The upstream is a stand-in that costs little; it and the load are on the first core, the proxies on the second, where
there are two. The gateway tells a real agent. LiteLLM is run where LITELLM_PYTHON names the Python of its environment.
Ends with one JSON line.
"""

import asyncio
import json
import os
import platform
import statistics
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.gateway_parts import proxies
from benchmarks.gateway_parts.leaving import leave, serve
from benchmarks.gateway_parts.load import Client, Took, many
from benchmarks.gateway_parts.proxies import Proxy

CALLS = 400
WARM = 20
CLIENTS = 32
WINDOWS = 5
BURST = 400
PACED, PACED_CLIENTS = 128, 64
MANY = 10_000


class Added(NamedTuple):
    """What a proxy adds to a direct call, milliseconds."""

    p50: float
    p99: float


class Cost(NamedTuple):
    """What a call costs a proxy, and how many it passes on."""

    cpu_ms: float
    per_second: float


async def latencies(direct: Proxy, proxy: Proxy, *, stream: bool, calls: int) -> tuple[list[Took], list[Took]]:
    """Ask both in turn, one call at a time: what disturbs the machine disturbs both."""
    asking = [Client(one.port, one.key) for one in (direct, proxy)]
    took: tuple[list[Took], list[Took]] = ([], [])
    for _ in range(calls + WARM):
        for client, times in zip(asking, took, strict=True):
            times.append(await client.ask("burst", stream=stream))
    for client in asking:
        await client.close()
    return took[0][WARM:], took[1][WARM:]


def added(took: tuple[list[Took], list[Took]], field: str) -> Added:
    """Return what the proxy adds: in the median, and at the 99th percentile."""
    direct, own = (sorted(getattr(one, field) for one in times) for times in took)
    place = int(0.99 * len(own))
    return Added(statistics.median(own) - statistics.median(direct), own[place] - direct[place])


async def cost(proxy: Proxy, model: str, *, clients: int, count: int, stream: bool = True) -> Cost:
    """Return what a call costs: the medians of some windows."""
    await many(proxy.port, proxy.key, model, clients=clients, count=count, stream=stream)
    windows = []
    for _ in range(WINDOWS):
        before = proxy.cpu_ms
        seconds = await many(proxy.port, proxy.key, model, clients=clients, count=count, stream=stream)
        windows.append(Cost((proxy.cpu_ms - before) / count, count / seconds))
    return Cost(*(statistics.median(column) for column in zip(*windows, strict=True)))


async def linear(proxy: Proxy, model: str, few: int) -> list[float]:
    """Return the CPU nanoseconds for each byte of a stream, and of one that is eight times as long."""
    costs = []
    for tokens in (few, 8 * few):
        client = Client(proxy.port, proxy.key)
        before, size = proxy.cpu_ms, 0
        for _ in range(3):
            size += (await client.ask(model, stream=True, tokens=tokens)).size
        costs.append(round((proxy.cpu_ms - before) * 1e6 / size, 2))
        await client.close()
    return costs


async def measured(direct: Proxy, proxy: Proxy, *, calls: int, count: int) -> dict[str, float]:
    """Return the figures that every proxy has."""
    streams = await latencies(direct, proxy, stream=True, calls=calls)
    plain = await latencies(direct, proxy, stream=False, calls=calls)
    burst = await cost(proxy, "burst", clients=CLIENTS, count=count)
    whole = await cost(proxy, "burst", clients=CLIENTS, count=count, stream=False)
    return {
        "added_p50_ms": added(plain, "whole_ms").p50,
        "added_p99_ms": added(plain, "whole_ms").p99,
        "added_first_byte_p50_ms": added(streams, "first_ms").p50,
        "added_first_byte_p99_ms": added(streams, "first_ms").p99,
        "added_stream_p50_ms": added(streams, "whole_ms").p50,
        "added_stream_p99_ms": added(streams, "whole_ms").p99,
        "cpu_ms_per_stream": burst.cpu_ms,
        "cpu_ms_per_plain_call": whole.cpu_ms,
        "streams_per_second": burst.per_second,
        "requests_per_second": whole.per_second,
        "rss_mb": proxy.rss_mb,
    }


async def of_ours(gateway: Proxy, leaves: Proxy, lost: asyncio.Queue[float]) -> dict[str, Any]:
    """Return the figures that only ours has."""
    await many(gateway.port, gateway.key, "burst", clients=CLIENTS, count=MANY // 2)
    before_mb = gateway.rss_mb
    await many(gateway.port, gateway.key, "burst", clients=CLIENTS, count=MANY)
    return {
        "cpu_ms_per_paced_stream": (await cost(gateway, "paced", clients=PACED_CLIENTS, count=PACED)).cpu_ms,
        "single_byte_ns_per_byte": await linear(gateway, "single", 5),
        "large_event_ns_per_byte": await linear(gateway, "large", 20),
        "rss_before_10000_streams_mb": before_mb,
        "rss_after_10000_streams_mb": gateway.rss_mb,
        "upstream_closed_after_leaving_max_ms": max(await leave(leaves.port, leaves.key, lost, 50)),
    }


async def measure(folder: Path, stack: ExitStack) -> dict[str, Any]:
    """Start all, and measure."""
    cores = sorted(os.sched_getaffinity(0))
    here, there = (cores[0], cores[1]) if len(cores) > 1 else (None, None)
    if here is not None:
        os.sched_setaffinity(0, {here})
    direct = stack.enter_context(proxies.upstream(proxies.free_port(), here))
    stack.enter_context(proxies.agent(folder, here))
    endless = proxies.free_port()
    lost = await serve(endless)
    bare = await cost(direct, "burst", clients=CLIENTS, count=BURST)
    plain = await cost(direct, "burst", clients=CLIENTS, count=BURST, stream=False)
    figures: dict[str, Any] = {
        "direct_streams_per_second": bare.per_second,
        "direct_requests_per_second": plain.per_second,
    }
    gateway = proxies.gateway(folder, direct.port, there)
    with gateway, proxies.gateway(folder, endless, there) as leaves:
        figures |= await measured(direct, gateway, calls=CALLS, count=BURST)
        figures |= await of_ours(gateway, leaves, lost)
    with proxies.minimal(direct.port, there) as least:
        figures |= _named("minimal", await measured(direct, least, calls=CALLS, count=BURST))
    python = os.environ.get("LITELLM_PYTHON", "")
    if not python or not Path(python).with_name("litellm").exists():
        return figures | {"litellm": "not installed"}
    with proxies.litellm(folder, direct.port, there, python) as peer:
        figures |= _named("litellm", await measured(direct, peer, calls=CALLS // 4, count=BURST // 10))
    return figures | {"streams_over_litellm": figures["streams_per_second"] / figures["litellm_streams_per_second"]}


def _named(name: str, figures: dict[str, float]) -> dict[str, float]:
    return {f"{name}_{key}": value for key, value in figures.items()}


def main() -> None:
    """Measure, and print one JSON line."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        figures = asyncio.run(measure(Path(folder), stack))
    short = {key: round(value, 3) if isinstance(value, float) else value for key, value in figures.items()}
    print(json.dumps({"bench": "gateway", "machine": f"{platform.machine()}, {os.cpu_count()} cores", **short}))


if __name__ == "__main__":
    main()
