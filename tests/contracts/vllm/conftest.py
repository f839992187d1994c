"""Sources of vLLM are read, and downloaded, by `make test-vllm` only: it names the Python with vLLM in VLLM_PYTHON."""

import os

collect_ignore_glob = [] if os.environ.get("VLLM_PYTHON") else ["test_real_*.py"]
