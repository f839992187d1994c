"""A stand-in for SGLang's publisher of forward passes: a real pyzmq PUB socket, with messages as its source makes them.

The fields, their order and the frames are those of srt/observability/forward_pass_metrics.py at e861116e (version 1,
which 48ccb9a4 lacks). As a program it is what a server's scheduler is to the kernel: it binds the address that it is
given, and says so, until its standard input is closed.
"""

import sys
from collections.abc import Mapping
from typing import Any, Self

import msgspec

VERSION = 1


def scheduled(prefill: tuple[int, int] = (0, 0), decode: tuple[int, int] = (0, 0)) -> dict[str, Any]:
    """Return what a pass scheduled: (requests, tokens) of prefill, (requests, KV tokens) of decode."""
    return {
        "num_prefill_requests": prefill[0],
        "sum_prefill_tokens": prefill[1],
        "var_prefill_length": 0.5,
        "sum_prefill_kv_tokens": 7,
        "num_decode_requests": decode[0],
        "sum_decode_kv_tokens": decode[1],
        "var_decode_kv_tokens": 1.5,
    }


def message(number: int, wall_time: float = 0.0, does: Mapping[str, Any] | None = None, **other: Any) -> list[bytes]:
    """Return the frames of one message; without anything it is the heartbeat of an idle engine."""
    zeros = dict.fromkeys(scheduled(), 0)
    payload = {
        "version": VERSION,
        "worker_id": "worker",
        "dp_rank": 0,
        "counter_id": number,
        "wall_time": wall_time,
        "scheduled_requests": does or zeros,
        "queued_requests": {key: value for key, value in zeros.items() if key != "sum_prefill_kv_tokens"},
        **other,
    }
    return [b"", number.to_bytes(8, "big"), msgspec.msgpack.encode(payload)]


class Publisher:
    """Publishes at an address while the context lasts; a number goes with each message."""

    def __init__(self, address: str) -> None:
        import zmq

        self.number = 0
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.PUB)
        self._socket.bind(address)
        self.address = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._socket.close(linger=0)
        self._context.term()

    def publish(self, wall_time: float = 0.0, does: Mapping[str, Any] | None = None) -> None:
        """Send what one pass did, or a heartbeat."""
        self._socket.send_multipart(message(self.number, wall_time, does))
        self.number += 1

    def send(self, *frames: bytes) -> None:
        """Send anything."""
        self._socket.send_multipart(frames)


if __name__ == "__main__":
    with Publisher(sys.argv[1]):
        sys.stdout.write("bound\n")
        sys.stdout.flush()
        sys.stdin.read()
