"""What a vLLM process says of itself: its model's shape and its engine's sizes, as vLLM's configuration tells. Pure.

A field that this version of vLLM lacks, or a model that is built otherwise, is left out: unknown is absent.
"""

from collections.abc import Mapping, Sequence
from typing import Any

_DTYPE_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2, "float8": 1, "fp8": 1, "int8": 1}
_FLOPS_PER_PARAMETER = 2
"""Kaplan et al. 2020, "Scaling Laws for Neural Language Models", arXiv 2001.08361, section 2.1: C_forward = 2N + ..."""
_ATTENTION_FLOPS = 4
"""Per layer, head dimension, head and pair of tokens: scores and values, a multiplication and an addition each.
Chowdhery et al. 2022, "PaLM", arXiv 2204.02311, appendix B: 12 LHQT forward and backward, forward being a third."""
_GATED = ("silu", "swish", "swiglu", "gelu_pytorch_tanh", "gelu_tanh")
"""Activations of models whose feed-forward layers have three matrices (transformers: Llama, Qwen, Mistral, Gemma)."""


def about(config: Any, *, version: str, role: str, index: int, process: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a process says in its hello.

    Args:
        config: vLLM's VllmConfig.
        version: vLLM's own.
        role: `engine` for a process that computes the schedule, `front` for one that answers clients.
        index: the engine's number among those that are data parallel.
        process: what the process knows of itself.
    """
    model, parallel = _of(config, "model_config"), _of(config, "parallel_config")
    known = {
        "role": role,
        "version": version,
        "engine_index": index,
        **process,
        "model": served_name(config),
        "block_size": _of(_of(config, "cache_config"), "block_size"),
        "tensor_parallel_size": _of(parallel, "tensor_parallel_size"),
        "pipeline_parallel_size": _of(parallel, "pipeline_parallel_size"),
        "data_parallel_size": _of(parallel, "data_parallel_size"),
        "shape": shape(_of(model, "hf_text_config"), model, _of(_of(config, "cache_config"), "cache_dtype")),
    }
    return {name: value for name, value in known.items() if value is not None}


def port_of(arguments: Sequence[str]) -> int | None:
    """Return the port that a command line names, None where it names none: a file may, or it is the usual one."""
    for place, word in enumerate(arguments):
        name, _, value = word.partition("=")
        if name == "--port":
            given = value or "".join(arguments[place + 1 : place + 2])
            return int(given) if given.isdigit() and len(given) < 6 else None
    return None


def served_name(config: Any) -> str:
    """Return the name under which clients ask for the model, the first where there are several."""
    model = _of(config, "model_config")
    served = _of(model, "served_model_name") or _of(model, "model") or ""
    return str(served[0] if isinstance(served, list) else served)


def shape(text: Any, model: Any, cache_dtype: Any) -> Mapping[str, float] | None:
    """Return the fields of `records.Model` that a transformer's configuration tells; None where it tells too little."""
    layers, hidden = _number(text, "num_hidden_layers"), _number(text, "hidden_size")
    heads = _number(text, "num_attention_heads")
    if not (layers and hidden and heads) or _of(text, "kv_lora_rank") is not None:
        return None
    kv_heads = _number(text, "num_key_value_heads") or heads
    head_dim = _number(text, "head_dim") or hidden / heads
    attention = 2 * hidden * head_dim * (heads + kv_heads)
    dense, experts = _feed_forward(text, hidden)
    vocabulary = (_number(text, "vocab_size") or 0.0) * hidden
    active = layers * (attention + dense + experts[0]) + vocabulary
    known: dict[str, float | None] = {
        "flops_per_token": _FLOPS_PER_PARAMETER * active,
        "attention_flops_per_token_pair": _ATTENTION_FLOPS * layers * heads * head_dim,
        "experts": _number(text, "num_experts") or _number(text, "num_local_experts"),
        "experts_per_token": _number(text, "num_experts_per_tok"),
    }
    weight = _dtype_bytes(_of(model, "dtype")) if _of(model, "quantization") is None else None
    cache = _dtype_bytes(cache_dtype) or _dtype_bytes(_of(model, "dtype"))
    if cache:
        known["kv_bytes_per_token"] = 2 * layers * kv_heads * head_dim * cache
    if weight:
        tied = 1 if _of(text, "tie_word_embeddings") else 2
        known["weight_bytes"] = weight * (layers * (attention + dense + experts[1]) + tied * vocabulary)
        known["expert_bytes"] = weight * layers * experts[1] or None
    return {name: value for name, value in known.items() if value}


def _feed_forward(text: Any, hidden: float) -> tuple[float, tuple[float, float]]:
    """Return a layer's dense parameters, and those of its experts: of one token, and all."""
    act = str(_of(text, "hidden_act") or _of(text, "hidden_activation") or _of(text, "activation_function") or "")
    matrices = 3 if act.lower() in _GATED else 2
    inner = _number(text, "intermediate_size") or 4 * hidden
    experts = _number(text, "num_experts") or _number(text, "num_local_experts")
    if not experts:
        return matrices * hidden * inner, (0.0, 0.0)
    one = 3 * hidden * (_number(text, "moe_intermediate_size") or inner)
    shared = 3 * hidden * (_number(text, "shared_expert_intermediate_size") or 0.0)
    return shared, (one * (_number(text, "num_experts_per_tok") or 1.0), one * experts)


def _dtype_bytes(dtype: Any) -> int | None:
    """Return the bytes of one value of a torch type, or of one of vLLM's names for the types of its cache."""
    name = str(dtype).removeprefix("torch.")
    return next((size for prefix, size in _DTYPE_BYTES.items() if name.startswith(prefix)), None)


def _of(thing: Any, name: str) -> Any:
    return getattr(thing, name, None)


def _number(thing: Any, name: str) -> float | None:
    value = getattr(thing, name, None)
    return float(value) if isinstance(value, int | float) and value > 0 else None
