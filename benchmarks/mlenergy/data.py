"""ML.ENERGY's measurements, and which models are of one family: the split is fixed here, and nowhere else.

The rows are those of github.com/ml-energy/leaderboard, `public/data/tasks/{gpqa,lm-arena-chat,...}.json`, commit
0cd52dab (2026-02-27; data set ml-energy/benchmark-v3, Apache-2.0). They are not part of this repository.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

PUBLICATION = "ML.ENERGY leaderboard v3, github.com/ml-energy/leaderboard, public/data/tasks, commit 0cd52dab"
FITTED = ("gpqa.json", "lm-arena-chat.json")
"""What the coefficients are fitted to."""
UNSEEN = ("image-chat.json", "video-chat.json")
"""What nothing is fitted to: a second test, of models that look at pictures and films."""

FAMILIES = (
    ("qwen3-dense", ("Qwen/Qwen3-8B", "Qwen/Qwen3-14B", "Qwen/Qwen3-32B")),
    ("qwen3-30b-a3b", ("Qwen/Qwen3-30B-A3B",)),
    ("qwen3-235b-a22b", ("Qwen/Qwen3-235B-A22B",)),
    ("deepseek-v3", ("deepseek-ai/DeepSeek-V3", "deepseek-ai/DeepSeek-R1")),
    ("gemma-3", ("google/gemma-3",)),
    ("llama-3-8b", ("meta-llama/Llama-3.1-8B",)),
    ("llama-3-70b", ("meta-llama/Llama-3.1-70B", "meta-llama/Llama-3.3-70B")),
    ("llama-3-405b", ("meta-llama/Llama-3.1-405B",)),
    ("llama-4", ("meta-llama/Llama-4",)),
    ("nemotron-nano-2", ("nvidia/NVIDIA-Nemotron-Nano",)),
    ("gpt-oss", ("openai/gpt-oss",)),
)
"""Family and how the ids of its models begin. Each family is held out once, and predicted by the ten others."""

WEIGHT_BITS = {"bfloat16": 16.0, "fp8": 8.0, "mxfp4": 4.25}
"""Bits per weight; MXFP4 has one 8-bit scale for 32 values (OCP Microscaling Formats 1.0, section 5.1)."""


@dataclass(frozen=True, slots=True)
class Row:
    """One measured configuration: a model on GPUs at a mean batch. Energy is that of the GPUs alone."""

    task: str
    model: str
    family: str
    active_billions: float
    total_billions: float
    weight_bits: float
    gpu_kind: str
    gpus: int
    batch: float
    inter_token_ms: float
    watts: float
    joules_per_token: float


class DataMissing(Exception):
    """The measurements are not where they were looked for."""


def read(folder: Path, names: Iterable[str]) -> list[Row]:
    """Return the rows of the files in `folder`.

    Raises:
        DataMissing: a file is not there.
    """
    rows: list[Row] = []
    for name in names:
        file = folder / name
        if not file.is_file():
            raise DataMissing(f"{file} is not there: {PUBLICATION}")
        rows += [_row(file.stem, found) for found in json.loads(file.read_text(encoding="utf-8"))["configurations"]]
    return rows


def _row(task: str, found: dict[str, object]) -> Row:
    def number(key: str) -> float:
        return float(found[key])  # type: ignore[arg-type]

    model = str(found["model_id"])
    return Row(
        task=task,
        model=model,
        family=family(model),
        active_billions=number("activated_params_billions"),
        total_billions=number("total_params_billions"),
        weight_bits=WEIGHT_BITS[str(found["weight_precision"])],
        gpu_kind=str(found["gpu_model"]),
        gpus=int(number("num_gpus")),
        batch=number("avg_batch_size"),
        inter_token_ms=number("median_itl_ms"),
        watts=number("avg_power_watts"),
        joules_per_token=number("energy_per_token_joules"),
    )


def family(model: str) -> str:
    """Return the family of a model id; a model that is in none is one of its own."""
    return next((name for name, begins in FAMILIES if model.startswith(begins)), model)
