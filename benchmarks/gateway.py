"""What the gateway adds to a call, beside LiteLLM's proxy and a direct call: same machine, same run, same upstream.

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
from typing import Any

from benchmarks.gateway_parts import proxies
from benchmarks.gateway_parts.load import Client, Took, many
from benchmarks.gateway_parts.proxies import Proxy

CALLS = 400
CLIENTS = 32
BURST = 2000
PACED = 256
PACED_CLIENTS = 64
MANY = 10_000


async def latencies(targets: list[Proxy], *, stream: bool, calls: int) -> dict[str, list[Took]]:
    """Ask each target in turn, one call at a time: what disturbs the machine disturbs all of them."""
    clients = {one.name: Client(one.port, one.key) for one in targets}
    took: dict[str, list[Took]] = {name: [] for name in clients}
    for round_ in range(calls + 20):
        for name, client in clients.items():
            one = await client.ask("burst", stream=stream)
            if round_ >= 20:
                took[name].append(one)
    for client in clients.values():
        await client.close()
    return took


def quantile(values: list[float], share: float) -> float:
    """Return the value below which a share of them lies."""
    return sorted(values)[min(int(share * len(values)), len(values) - 1)]


def added(took: dict[str, list[Took]], name: str, field: str) -> tuple[float, float]:
    """Return what a target adds to the direct call, milliseconds: in the median, and at the 99th percentile."""
    own, direct = ([getattr(one, field) for one in took[who]] for who in (name, "direct"))
    return statistics.median(own) - statistics.median(direct), quantile(own, 0.99) - quantile(direct, 0.99)


async def cost(proxy: Proxy, model: str, *, clients: int, count: int, stream: bool = True) -> tuple[float, float]:
    """Return the CPU milliseconds of the proxy for each call, and the calls a second."""
    await many(proxy.port, proxy.key, model, clients=clients, count=clients, stream=stream)
    before = proxy.cpu_ms
    seconds = await many(proxy.port, proxy.key, model, clients=clients, count=count, stream=stream)
    return (proxy.cpu_ms - before) / count, count / seconds


async def linear(proxy: Proxy, model: str, few: int) -> tuple[float, float]:
    """Return the CPU nanoseconds for each byte of a stream, and of one that is eight times as long."""
    costs = []
    for tokens in (few, 8 * few):
        client = Client(proxy.port, proxy.key)
        before, size = proxy.cpu_ms, 0
        for _ in range(3):
            size += (await client.ask(model, stream=True, tokens=tokens)).size
        costs.append((proxy.cpu_ms - before) * 1e6 / size)
        await client.close()
    return costs[0], costs[1]


async def ours(gateway: Proxy, took: dict[str, list[Took]], whole: dict[str, list[Took]]) -> dict[str, Any]:
    """Measure our gateway."""
    first, whole_stream, plain = (
        added(took, gateway.name, "first_ms"),
        added(took, gateway.name, "whole_ms"),
        added(whole, gateway.name, "whole_ms"),
    )
    idle_mb = gateway.rss_mb
    burst_ms, burst_rps = await cost(gateway, "burst", clients=CLIENTS, count=BURST)
    plain_ms, plain_rps = await cost(gateway, "burst", clients=CLIENTS, count=BURST, stream=False)
    paced_ms, _ = await cost(gateway, "paced", clients=PACED_CLIENTS, count=PACED)
    single, large = await linear(gateway, "single", 5), await linear(gateway, "large", 20)
    before_mb = gateway.rss_mb
    await many(gateway.port, gateway.key, "burst", clients=CLIENTS, count=MANY)
    return {
        "added_p50_ms": round(plain[0], 3),
        "added_p99_ms": round(plain[1], 3),
        "added_first_byte_p50_ms": round(first[0], 3),
        "added_first_byte_p99_ms": round(first[1], 3),
        "added_stream_p50_ms": round(whole_stream[0], 3),
        "added_stream_p99_ms": round(whole_stream[1], 3),
        "cpu_ms_per_stream": round(burst_ms, 3),
        "cpu_ms_per_paced_stream": round(paced_ms, 3),
        "cpu_ms_per_plain_call": round(plain_ms, 3),
        "streams_per_second": round(burst_rps, 1),
        "requests_per_second": round(plain_rps, 1),
        "single_byte_ns_per_byte": [round(one, 1) for one in single],
        "large_event_ns_per_byte": [round(one, 2) for one in large],
        "rss_mb": round(idle_mb, 1),
        "rss_before_10000_streams_mb": round(before_mb, 1),
        "rss_after_10000_streams_mb": round(gateway.rss_mb, 1),
    }


async def theirs(proxy: Proxy, took: dict[str, list[Took]], whole: dict[str, list[Took]]) -> dict[str, Any]:
    """Measure LiteLLM's proxy."""
    burst_ms, burst_rps = await cost(proxy, "burst", clients=CLIENTS, count=BURST // 20)
    plain_ms, plain_rps = await cost(proxy, "burst", clients=CLIENTS, count=BURST // 10, stream=False)
    figures = {
        "added_p50_ms": added(whole, proxy.name, "whole_ms")[0],
        "added_p99_ms": added(whole, proxy.name, "whole_ms")[1],
        "added_first_byte_p50_ms": added(took, proxy.name, "first_ms")[0],
        "added_stream_p50_ms": added(took, proxy.name, "whole_ms")[0],
        "cpu_ms_per_stream": burst_ms,
        "cpu_ms_per_plain_call": plain_ms,
        "streams_per_second": burst_rps,
        "requests_per_second": plain_rps,
        "rss_mb": proxy.rss_mb,
    }
    return {f"litellm_{name}": round(value, 3) for name, value in figures.items()}


async def measure(folder: Path, stack: ExitStack) -> dict[str, Any]:
    """Start all, and measure."""
    cores = sorted(os.sched_getaffinity(0))
    here, there = (cores[0], cores[1]) if len(cores) > 1 else (None, None)
    if here is not None:
        os.sched_setaffinity(0, {here})
    server = stack.enter_context(proxies.upstream(proxies.free_port(), here))
    server.name = "direct"
    stack.enter_context(proxies.agent(folder, here))
    gateway = stack.enter_context(proxies.gateway(folder, server.port, there))
    python = os.environ.get("LITELLM_PYTHON", "")
    peer = stack.enter_context(proxies.litellm(folder, server.port, there, python)) if _is_there(python) else None
    targets = [server, gateway, *([peer] if peer else [])]
    calls = CALLS if peer is None else CALLS // 2
    took = await latencies(targets, stream=True, calls=calls)
    whole = await latencies(targets, stream=False, calls=calls)
    direct_ms, direct_rps = await cost(server, "burst", clients=CLIENTS, count=BURST)
    figures = {"direct_streams_per_second": round(direct_rps, 1), "upstream_cpu_ms_per_stream": round(direct_ms, 3)}
    figures |= await ours(gateway, took, whole)
    return figures | (await theirs(peer, took, whole) if peer else {"litellm": "not installed"})


def _is_there(python: str) -> bool:
    return bool(python) and Path(python).with_name("litellm").exists()


def main() -> None:
    """Measure, and print one JSON line."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        figures = asyncio.run(measure(Path(folder), stack))
    print(json.dumps({"bench": "gateway", "machine": f"{platform.machine()}, {os.cpu_count()} cores", **figures}))


if __name__ == "__main__":
    main()
