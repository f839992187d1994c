"""A decoder of random weights with continuous batching, in plain torch: what runs is known to the last token.

As in a server, the tokens of all members of a step go through the linear layers together and each attends to its own KV
cache. It answers nothing sensible; what it costs is real. Shaped as Llama: RMSNorm, grouped-query attention, SwiGLU.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from inferwatt.records import Model


@dataclass(frozen=True, slots=True)
class Shape:
    """The size of the model."""

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    inner: int
    vocabulary: int = 32_000
    bytes_per_value: int = 2

    @property
    def parameters(self) -> int:
        """How many weights it has, embeddings counted once."""
        head = self.hidden // self.heads
        attention = self.hidden * head * (2 * self.heads + 2 * self.kv_heads)
        return self.layers * (attention + 3 * self.hidden * self.inner) + self.vocabulary * self.hidden

    def model(self) -> Model:
        """Return what the attribution is told of it: FLOPs and bytes by its matrices."""
        head = self.hidden // self.heads
        return Model(
            f"random-{self.parameters / 1e9:.1f}b",
            weight_bytes=float(self.parameters * self.bytes_per_value),
            flops_per_token=2.0 * self.parameters,
            attention_flops_per_token_pair=4.0 * self.layers * self.heads * head,
            kv_bytes_per_token=2.0 * self.layers * self.kv_heads * head * self.bytes_per_value,
        )


SHAPES = {
    "tiny": Shape(2, 64, 4, 2, 128, 512),
    "1b": Shape(16, 2048, 32, 8, 8192),
    "8b": Shape(32, 4096, 32, 8, 14336),
}


@dataclass(slots=True)
class Running:
    """One request at work: its tokens still to compute, and its caches (keys and values of each layer)."""

    name: str
    prompt: int
    output: int
    context: int = 0
    made: int = 0
    caches: list[tuple[Any, Any]] = field(default_factory=list)

    @property
    def new_tokens(self) -> int:
        """How many tokens its next step computes."""
        return 1 if self.context else self.prompt

    @property
    def is_done(self) -> bool:
        """Whether it has all its output."""
        return self.made >= self.output


class Decoder:
    """The model on a device, ready to step."""

    def __init__(self, torch: Any, shape: Shape, device: str) -> None:  # noqa: ANN401 - torch is not typed here
        self.torch, self.shape, self.device = torch, shape, device
        self.kind = torch.bfloat16 if device != "cpu" else torch.float32
        torch.manual_seed(1)
        head = shape.hidden // shape.heads
        wide, narrow = shape.heads * head, shape.kv_heads * head
        self.layers = [
            {
                "qkv": self._weights(shape.hidden, wide + 2 * narrow),
                "out": self._weights(wide, shape.hidden),
                "up": self._weights(shape.hidden, 2 * shape.inner),
                "down": self._weights(shape.inner, shape.hidden),
            }
            for _ in range(shape.layers)
        ]
        self.embedding = self._weights(shape.vocabulary, shape.hidden)

    def _weights(self, rows: int, columns: int) -> Any:  # noqa: ANN401
        weights = self.torch.randn(rows, columns, dtype=self.kind, device=self.device)
        return weights / rows**0.5

    def step(self, members: Sequence[Running]) -> None:
        """Compute one step of all members, and wait until the device has."""
        torch = self.torch
        counts = [member.new_tokens for member in members]
        with torch.inference_mode():
            x = self.embedding[torch.randint(self.shape.vocabulary, (sum(counts),), device=self.device)]
            for number, layer in enumerate(self.layers):
                x = x + self._attend(members, counts, self._norm(x) @ layer["qkv"], number) @ layer["out"]
                gate, up = (self._norm(x) @ layer["up"]).chunk(2, dim=-1)
                x = x + (torch.nn.functional.silu(gate) * up) @ layer["down"]
            last = torch.tensor(counts, device=self.device).cumsum(0) - 1
            (self._norm(x)[last] @ self.embedding.T).argmax(dim=-1).cpu()
        for member, count in zip(members, counts, strict=True):
            member.context += count
            member.made += 1

    def _norm(self, x: Any) -> Any:  # noqa: ANN401
        return self.torch.nn.functional.rms_norm(x, (self.shape.hidden,))

    def _attend(self, members: Sequence[Running], counts: list[int], qkv: Any, layer: int) -> Any:  # noqa: ANN401
        torch, shape = self.torch, self.shape
        head = shape.hidden // shape.heads
        found = []
        for member, part in zip(members, qkv.split(counts), strict=True):
            q, k, v = part.split([shape.heads * head, shape.kv_heads * head, shape.kv_heads * head], dim=-1)
            q, k, v = (each.view(len(part), -1, head).transpose(0, 1) for each in (q, k, v))
            if len(member.caches) <= layer:
                room = member.prompt + member.output
                member.caches.append(
                    tuple(torch.empty(shape.kv_heads, room, head, dtype=k.dtype, device=k.device) for _ in "kv")
                )
            keys, values = member.caches[layer]
            until = member.context + len(part)
            keys[:, member.context : until], values[:, member.context : until] = k, v
            is_prompt = member.context == 0
            answer = torch.nn.functional.scaled_dot_product_attention(
                q[None], keys[None, :, :until], values[None, :, :until], is_causal=is_prompt, enable_gqa=True
            )
            found.append(answer[0].transpose(0, 1).reshape(len(part), -1))
        return torch.cat(found)
