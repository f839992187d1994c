"""What vLLM is told by name: `vllm serve MODEL --middleware inferwatt.vllm.Middleware` (docs/servers/vllm.md)."""

from inferwatt.engines.vllm_middleware import Middleware

__all__ = ["Middleware"]
