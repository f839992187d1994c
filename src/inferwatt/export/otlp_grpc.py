"""OTLP/gRPC: the same messages by a unary call, as the OTLP specification 1.x has it."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import grpc
from google.protobuf.message import DecodeError, Message
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status

from inferwatt import __version__
from inferwatt.export.exporter import ExportRefused, ExportRetry
from inferwatt.export.otlp_signals import Signal
from inferwatt.export.settings import OtlpConfig

_OPTIONS: Final = (
    ("grpc.primary_user_agent", f"inferwatt/{__version__}"),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 1_000),  # its own grows to two minutes: the outlet is who waits
)
_CODE: Final = grpc.StatusCode
_AGAIN: Final = frozenset(
    {_CODE.CANCELLED, _CODE.DEADLINE_EXCEEDED, _CODE.ABORTED, _CODE.OUT_OF_RANGE, _CODE.UNAVAILABLE, _CODE.DATA_LOSS}
)
"""After these a batch comes again, by the specification; after RESOURCE_EXHAUSTED only if it says when."""
_OURS_TO_MEND: Final = frozenset({_CODE.UNAUTHENTICATED, _CODE.PERMISSION_DENIED})
_REASONS: Final = {_CODE.UNAVAILABLE: "connection", _CODE.DEADLINE_EXCEEDED: "timeout"}
_FIXES: Final = {
    _CODE.UNAVAILABLE: ("cannot be reached", "start it, or look at export.otlp.endpoint"),
    _CODE.DEADLINE_EXCEEDED: ("does not answer in time", "raise export.otlp.timeout_seconds, or look at its load"),
    _CODE.UNAUTHENTICATED: ("asks for a token", "the right header into export.otlp.headers_file"),
    _CODE.PERMISSION_DENIED: ("refuses the token", "the right header into export.otlp.headers_file"),
    _CODE.UNIMPLEMENTED: ("takes none of these", "export.otlp.spans = false where it takes no spans"),
    _CODE.RESOURCE_EXHAUSTED: ("asks us to wait", "none: it is sent again if it says when"),
}


class Wire:
    """Calls one receiver, over a channel that stays open."""

    def __init__(self, config: OtlpConfig, headers: Callable[[], Mapping[str, str]]) -> None:
        self._endpoint = config.endpoint
        self._headers = headers
        self._timeout_seconds = config.timeout_seconds
        packed = grpc.Compression.Gzip if config.compression == "gzip" else grpc.Compression.NoCompression
        parts = urlsplit(config.endpoint)
        if parts.scheme == "http":
            self._channel = grpc.insecure_channel(parts.netloc, _OPTIONS, packed)
        else:
            trusted = grpc.ssl_channel_credentials(Path(config.ca_file).read_bytes() if config.ca_file else None)
            self._channel = grpc.secure_channel(parts.netloc, trusted, _OPTIONS, packed)

    def send(self, signal: Signal, body: Message) -> Message:
        """Send it; return the receiver's answer.

        Raises:
            ExportRetry: it was not taken; it comes again.
            ExportRefused: it never will be.
        """
        call = self._channel.unary_unary(
            signal.method,
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=signal.answer.FromString,
        )
        metadata = [(name.lower(), value) for name, value in self._headers().items()]
        try:
            answer: Message = call(body, timeout=self._timeout_seconds, metadata=metadata)
        except grpc.RpcError as exc:
            raise _failure(exc, self._endpoint) from None
        return answer

    def close(self) -> None:
        """Let go of the connection."""
        self._channel.close()


def _failure(error: Any, where: str) -> ExportRetry | ExportRefused:  # noqa: ANN401 - grpc's, whose types say less
    code = error.code()
    wait_seconds = _retry_after_seconds(error.trailing_metadata() or ())
    what, fix = _FIXES.get(code, (f"answers {code.name}", "see the receiver's own log"))
    what = f"the OTLP receiver {what}: {error.details()}"
    reason = _REASONS.get(code, code.name.lower())
    if code not in _AGAIN | _OURS_TO_MEND and wait_seconds is None:
        return ExportRefused(what, where=where, fix=fix, reason=reason)
    return ExportRetry(what, where=where, fix=fix, reason=reason, retry_after_seconds=wait_seconds)


def _retry_after_seconds(metadata: Any) -> float | None:  # noqa: ANN401 - pairs of grpc's own type
    """Return when the receiver wants to be asked again: in the details of its status, where it says so."""
    for key, value in metadata:
        if key == "grpc-status-details-bin":
            try:
                details = Status.FromString(value).details
            except DecodeError:
                return None
            info = RetryInfo()
            if any(each.Unpack(info) for each in details):
                return float(info.retry_delay.seconds + info.retry_delay.nanos / 1e9)
    return None
