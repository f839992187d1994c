"""The simple rules that we compare with: a window's joules divided by one number per request. Pure.

Each takes the energy of all work of an engine over the whole window and divides it in proportion to: output tokens
(as the ML.ENERGY benchmark and Aitra Meter do), all tokens, residence time, or one for each request.
"""

import numpy as np

from inferwatt.attribution.arrays import Floats
from inferwatt.records import Request, Rule


def weights(rule: Rule, requests: list[Request]) -> Floats:
    """Return what each request weighs in prefill and in decode, shape (n, 2); equal where the rule knows nothing."""
    rows = np.array([_weight(rule, request) for request in requests], dtype=np.float64).reshape(-1, 2)
    if rows.sum() <= 0:
        rows[:, 1] = 1.0
    return rows


def _weight(rule: Rule, request: Request) -> tuple[float, float]:
    match rule:
        case Rule.OUTPUT_TOKENS:
            return 0.0, request.output_tokens or 0
        case Rule.ALL_TOKENS:
            return request.prompt_tokens or 0, request.output_tokens or 0
        case Rule.RESIDENCE:
            first_ns = max(request.first_token_ns or 0, request.arrival_ns)
            end_ns = max(request.end_ns or 0, first_ns)
            return first_ns - request.arrival_ns, end_ns - first_ns
        case _:
            return 0.0, 1.0
