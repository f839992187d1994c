"""What other tools say of the same rows. Run by benchmarks/estimates.py in an environment that has them.

Standard library and the tools only: rows come in as JSON on standard input, figures go out as JSON, joules of GPUs
per output token, or null where a tool knows nothing of the row. A tool that is not installed is left out.
"""

import json
import os
import sys
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

Row = Mapping[str, Any]
Ask = Callable[[Row], float | None]
WH = 3600.0


def ecologits() -> Ask:
    """EcoLogits' own code with the row's true batch: its GPUs times its energy of one GPU, without server and PUE."""
    from ecologits.impacts.llm import compute_llm_impacts_dag

    zero = dict.fromkeys(("adpe", "pe", "gwp", "wue"), 0.0)

    def ask(row: Row) -> float:
        made = compute_llm_impacts_dag(
            model_active_parameter_count=row["active_billions"],
            model_total_parameter_count=row["total_billions"],
            output_token_count=1,
            request_latency=0.0,
            datacenter_pue=1.0,
            datacenter_wue=0.0,
            batch_size=row["batch"],
            **{f"if_electricity_mix_{name}": value for name, value in zero.items()},
        )
        return float(made["request_it_energy"]) * 1000 * WH

    return ask


def ecocost() -> Ask:
    """ecocost: its energy at the meter divided by the overhead and the PUE that it says it put on it; no batch."""
    import ecocost as package

    def ask(row: Row) -> float | None:
        if row["gpu_kind"] != "H100":
            return None
        try:
            energy = package.estimate(row["model"], provider="unknown-us", output_tokens=1_000_000)["energy"]
        except Exception as exc:
            if type(exc).__name__ != "UnknownModelError":
                raise
            return None
        return float(energy["value"]) * WH / 1e6 / float(energy["serving_overhead"]) / float(energy["pue"])

    return ask


def leadgreen() -> Ask:
    """Lead Green: the measured row nearest to the batch, from its bundled snapshot of one of the tables (chat)."""
    import leadgreen_mcp

    os.environ["LEADGREEN_API_BASE"] = str(Path(leadgreen_mcp.__file__).parent / "data")
    from leadgreen_mcp import server

    def ask(row: Row) -> float | None:
        try:
            made = server.estimate(
                row["model"], 1_000_000, gpu=row["gpu_kind"], running_batch=row["batch"], num_gpus=row["gpus"]
            )
        except Exception as exc:
            if type(exc).__name__ not in {"ToolError", "ResourceError"}:
                raise
            return None
        return float(made["energy_wh"]) * WH / 1e6

    return ask


PEERS: dict[str, tuple[str, Callable[[], Ask]]] = {
    "ecologits": ("ecologits", ecologits),
    "ecocost": ("ecocost", ecocost),
    "leadgreen": ("leadgreen-mcp", leadgreen),
}


def main() -> None:
    """Answer for every row by every tool that is installed."""
    rows = json.load(sys.stdin)
    answers: dict[str, Any] = {}
    for name, (distribution, prepare) in PEERS.items():
        try:
            installed = version(distribution)
        except PackageNotFoundError:
            continue
        ask = prepare()
        answers[name] = {"version": installed, "joules_per_token": [ask(row) for row in rows]}
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    main()
