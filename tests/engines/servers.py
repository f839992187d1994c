"""Doubles of an inference server: one that answers in the process, one that answers by socket."""

import contextlib
import json
import socket
import threading
from collections.abc import Iterator

from inferwatt.engines.fetch import Answer
from inferwatt.errors import InferwattError, SourceGone, SourceRetry

LOADING = Answer(503, b'{"error":{"message":"Loading model","type":"unavailable_error","code":503}}', {})
MODELS = {
    "data": [{"id": "/m/tiny.gguf", "owned_by": "llamacpp", "meta": {"n_params": 1000, "size": 4000, "n_embd": 64}}]
}


class FakeLlama:
    """A scripted llama.cpp server: counters that a test sets, and ways to be away. It is its own `Fetch`."""

    def __init__(self) -> None:
        self.prompt, self.cached, self.output, self.running, self.waiting = 0, 0, 0, 0, 0
        self.start = "100"
        self.answers: dict[str, Answer | InferwattError | None] = {}
        self.asked: list[str] = []

    def get(self, path: str) -> Answer | None:
        """Answer as the server would, or as the test scripted it."""
        self.asked.append(path)
        answer = self.answers.get(path, self.answers.get("*", self._usual(path)))
        if isinstance(answer, InferwattError):
            raise answer
        return answer

    def close(self) -> None:
        """Nothing to give back."""

    def die(self) -> None:
        """Be gone: nobody listens."""
        self.answers["*"] = SourceGone("nobody listens", where="fake", fix="start the server")

    def hang(self) -> None:
        """Time out."""
        self.answers["*"] = SourceRetry("no usable answer", where="fake", fix="look at the server's log")

    def load(self) -> None:
        """Listen, but have no model yet."""
        self.answers["*"] = LOADING

    def serve(self) -> None:
        """Answer as usual."""
        self.answers.clear()

    def restart(self, start: str) -> None:
        """Begin again as a new process."""
        self.prompt, self.cached, self.output, self.start = 0, 0, 0, start
        self.serve()

    def page(self) -> str:
        """Return the metrics page as llama.cpp prints it."""
        return (
            f"llamacpp:prompt_tokens_total {self.prompt}\nllamacpp:prompt_tokens_cached_total {self.cached}\n"
            f"llamacpp:tokens_predicted_total {self.output}\nllamacpp:requests_processing {self.running}\n"
            f"llamacpp:requests_deferred {self.waiting}\n"
        )

    def _usual(self, path: str) -> Answer:
        if path == "/metrics":
            return Answer(200, self.page().encode(), {"process-start-time-unix": self.start} if self.start else {})
        if path == "/v1/models":
            return Answer(200, json.dumps(MODELS).encode(), {})
        return Answer(200, b'{"build_info":"b1"}', {})


class RawServer:
    """A socket that answers each connection with given bytes, in chunks if wanted, and may then hold it open."""

    def __init__(self, *chunks: bytes, hold: bool = False) -> None:
        self._chunks = chunks
        self._hold = hold
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._released = threading.Event()
        self.questions: list[bytes] = []
        self.port = int(self._listener.getsockname()[1])
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening and let held connections go."""
        self._released.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)

    def release(self) -> None:
        """Let a held answer go out."""
        self._released.set()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                self.questions.append(connection.recv(65536))
                if self._hold:
                    self._released.wait(10)
                for chunk in self._chunks:
                    connection.sendall(chunk)


@contextlib.contextmanager
def raw_server(*chunks: bytes, hold: bool = False) -> Iterator[RawServer]:
    """Run a `RawServer` while the context lasts."""
    server = RawServer(*chunks, hold=hold)
    try:
        yield server
    finally:
        server.close()


def http(body: bytes, *headers: str, status: str = "200 OK", length: int | None = None) -> bytes:
    """Return the bytes of an HTTP answer."""
    lines = (f"HTTP/1.1 {status}", f"Content-Length: {len(body) if length is None else length}", *headers)
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body
