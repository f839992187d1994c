"""The real vLLM on the CPU with and without the plugin: throughput and inter-token latency, in pairs; cost of a step.

Two servers with one tiny model each, one of them metered by a real agent. Loads alternate between them, so that what
else the machine does hits both; the figure is the median of the pairs. Then the agent is stopped for 3 s, again and
again: the 99th percentile of times between tokens, with and without. Ends with one JSON line.
"""

import http.client
import json
import math
import os
import platform
import signal
import statistics
import subprocess
import tempfile
import threading
import time
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from urllib.parse import urlsplit

from tests.real.children import AgentProcess
from tests.vllm.server import MODEL, PYTHON, VllmProcess

PAIRS = int(os.environ.get("PAIRS", "12"))
STOPS = PAIRS
STREAMS = 6
TOKENS = 900
STOPPED_SECONDS = 3.0
NOTES = (
    "tiny random model, float32, cores shared by server, agent and clients: a step takes some 2 ms, so that the "
    "plugin's share is larger than on a GPU; hook and encode are with vLLM's own SchedulerOutput objects, least of 7"
)


def stream(url: str, told: list[list[float]]) -> None:
    """Ask for one streamed answer, and note when each of its tokens came, seconds."""
    body = {"model": MODEL, "prompt": "a" * 40, "max_tokens": TOKENS, "stream": True, "ignore_eos": True}
    with closing(http.client.HTTPConnection(urlsplit(url).netloc, timeout=120)) as connection:
        connection.request("POST", "/v1/completions", json.dumps(body), {"content-type": "application/json"})
        with closing(connection.getresponse()) as answer:
            told.append([time.perf_counter() for line in answer if line.startswith(b"data: {")])


def streams(url: str) -> list[list[float]]:
    """Ask for several streams at once, and return when the tokens of each came."""
    told: list[list[float]] = []
    threads = [threading.Thread(target=stream, args=(url, told)) for _ in range(STREAMS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return told


def load(url: str) -> tuple[float, float]:
    """Ask for several streams at once; return tokens per second, and the mean time between two of a stream."""
    begin = time.perf_counter()
    told = streams(url)
    latency = statistics.fmean((times[-1] - times[0]) / (TOKENS - 1) for times in told)
    return STREAMS * TOKENS / (time.perf_counter() - begin), latency


def gaps(told: list[list[float]], until: float = math.inf) -> list[float]:
    """Return the times between two tokens of a stream, seconds, up to some time."""
    return [after - before for times in told for before, after in pairwise(times) if after <= until]


def beside_a_stopped_agent(metered: str, agent: AgentProcess) -> dict[str, float]:
    """Return the 99th percentile of times between tokens, with an agent that runs and one that is stopped for 3 s."""
    running, stopped = list[float](), list[float]()
    for _ in range(STOPS):
        running += gaps(streams(metered))
        timer = threading.Timer(STOPPED_SECONDS, agent.process.send_signal, (signal.SIGCONT,))
        agent.process.send_signal(signal.SIGSTOP)
        until = time.perf_counter() + STOPPED_SECONDS
        timer.start()
        stopped += gaps(streams(metered), until)
        timer.join()
    before, after = (statistics.quantiles(some, n=100)[-1] for some in (running, stopped))
    return {
        "p99_inter_token_ms": round(1000 * before, 3),
        "p99_inter_token_agent_stopped_ms": round(1000 * after, 3),
    }


def ratios(metered: str, plain: str) -> tuple[list[float], list[float]]:
    """Return, for each pair of loads, the metered server's throughput and latency by those of the plain one."""
    throughput, latency = [], []
    for url in (metered, plain):
        load(url)  # warm
    for number in range(PAIRS):
        urls = (metered, plain) if number % 2 else (plain, metered)
        seen = {url: load(url) for url in urls}
        throughput.append(seen[metered][0] / seen[plain][0])
        latency.append(seen[metered][1] / seen[plain][1])
    return throughput, latency


def main() -> None:
    """Run both, and print the figures."""
    busy = round(os.getloadavg()[0], 2)
    with tempfile.TemporaryDirectory() as folder:
        home, model = Path(folder), Path(folder) / "model"
        script = Path(__file__).parent.parent / "tests" / "vllm" / "tiny_model.py"
        subprocess.run([PYTHON, str(script), str(model)], check=True, capture_output=True)
        hook = subprocess.run(
            [PYTHON, "-m", "benchmarks.doubles.vllm_hook"], check=True, capture_output=True, text=True
        )
        with AgentProcess(home) as agent, VllmProcess(model, agent) as metered:
            os.environ["INFERWATT_VLLM"] = "0"
            with VllmProcess(model, agent) as plain:
                throughput, latency = ratios(metered.url, plain.url)
            stops = beside_a_stopped_agent(metered.url, agent)
    figures = {
        "throughput_ratio": round(statistics.median(throughput), 4),
        "throughput_ratio_min": round(min(throughput), 4),
        "throughput_ratio_max": round(max(throughput), 4),
        "inter_token_latency_ratio": round(statistics.median(latency), 4),
        **stops,
        **json.loads(hook.stdout.splitlines()[-1]),
    }
    machine = {"cpu": platform.processor() or platform.machine(), "cores": os.cpu_count(), "load": busy}
    print(json.dumps({"bench": "vllm", "machine": machine, "figures": figures, "notes": NOTES}))


if __name__ == "__main__":
    main()
