"""The class that vLLM asks for as a stat logger: ours, under the base class that it insists on. Loaded by vLLM only."""

from vllm.v1.metrics.loggers import StatLoggerBase  # type: ignore[import-not-found, unused-ignore]

from inferwatt.engines.vllm_front import FrontLogger


class InferwattLogger(FrontLogger, StatLoggerBase):  # type: ignore[misc, unused-ignore]
    """Tells the agent which requests this front end has finished."""
