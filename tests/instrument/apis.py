"""Stand-ins of managed APIs: they speak the documented protocol, on this machine, and say fixed tokens.

OpenAI (chat completions, responses, embeddings), Anthropic (messages), Gemini (generateContent), Amazon Bedrock
(Converse, InvokeModel, with the binary event stream of its Smithy model). A model named `broken` is answered 400; one
named `slow` sends its first piece and then nothing until the client leaves; `metered` carries our own figure.
"""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

from tests.instrument.answers import (
    CONVERSED,
    OUTPUT,
    PROMPT,
    chat,
    chat_events,
    converse_events,
    generated,
    invoke_events,
    message,
    message_events,
    response,
)


class Handler(BaseHTTPRequestHandler):
    """Answers by path; it keeps what it was asked."""

    protocol_version = "HTTP/1.1"
    asked: ClassVar[list[str]] = []
    stops: ClassVar[threading.Event] = threading.Event()

    def log_message(self, *args: object) -> None:
        """Say nothing."""

    def do_POST(self) -> None:
        """Answer a call."""
        body = json.loads(self.rfile.read(int(self.headers.get("content-length", 0))) or b"{}")
        path = self.path.partition("?")[0]
        model = body.get("model") or path.rpartition("/models/")[2].partition(":")[0]
        self.asked.append(path)
        if "broken" in self.path or model == "broken":
            self._say(400, {"error": {"message": "no", "type": "invalid_request_error", "code": 400}, "message": "no"})
            return
        for end, answer in _ANSWERS.items():
            if path.endswith(end):
                answer(self, model, body)
                return
        self._say(404, {})

    def _say(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"content-type": "application/json", "content-length": str(len(data))}.items():
            self.send_header(name, value)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def _stream(self, kind: str, pieces: Iterator[bytes], *, slow: bool = False) -> None:
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("x-amzn-RequestId", "r3")
        self.send_header("connection", "close")
        self.end_headers()
        self.close_connection = True
        try:
            for piece in pieces:
                self.wfile.write(piece)
                self.wfile.flush()
                if slow:
                    self.stops.wait(20)
                    return
        except OSError:
            return  # the client has left

    def chat(self, model: str, body: dict[str, Any]) -> None:
        """Chat completions."""
        if not body.get("stream"):
            self._say(200, chat(model))
            return
        usage = bool((body.get("stream_options") or {}).get("include_usage"))
        events = (f"data: {json.dumps(one)}\n\n".encode() for one in chat_events(model, usage=usage))
        self._stream("text/event-stream", _then(events, b"data: [DONE]\n\n"), slow=model == "slow")

    def messages(self, model: str, body: dict[str, Any]) -> None:
        """Anthropic's messages."""
        if not body.get("stream"):
            self._say(200, message(model))
            return
        events = (f"event: {one['type']}\ndata: {json.dumps(one)}\n\n".encode() for one in message_events(model))
        self._stream("text/event-stream", events, slow=model == "slow")

    def respond(self, model: str, body: dict[str, Any]) -> None:
        """Responses."""
        if not body.get("stream"):
            self._say(200, response(model))
            return
        done = {"type": "response.completed", "sequence_number": 1, "response": response(model)}
        self._stream("text/event-stream", iter([f"event: response.completed\ndata: {json.dumps(done)}\n\n".encode()]))

    def embeddings(self, model: str, _body: dict[str, Any]) -> None:
        """Embeddings."""
        data = [{"object": "embedding", "index": 0, "embedding": [0.5]}]
        usage = {"prompt_tokens": PROMPT, "total_tokens": PROMPT}
        self._say(200, {"object": "list", "data": data, "model": model, "usage": usage})

    def generate(self, model: str, _body: dict[str, Any]) -> None:
        """Gemini's generateContent."""
        self._say(200, generated(model))

    def generate_stream(self, model: str, _body: dict[str, Any]) -> None:
        """Gemini's streamGenerateContent."""
        first = generated(model, usage=False)
        name = first["responseId"]
        pieces = (first, generated(model, usage=False, name=name), generated(model, name=name))
        self._stream("text/event-stream", (f"data: {json.dumps(one)}\r\n\r\n".encode() for one in pieces))

    def tgi(self, _model: str, body: dict[str, Any]) -> None:
        """TGI's own form, with details where they are asked for."""
        told: dict[str, Any] = {"generated_text": "Hello."}
        if body["parameters"].get("details"):
            prefill = [{"id": number, "text": "t", "logprob": 0.0} for number in range(PROMPT)]
            counts = {"finish_reason": "length", "generated_tokens": OUTPUT, "seed": None}
            told["details"] = {**counts, "prefill": prefill, "tokens": []}
        self._say(200, [told])

    def converse(self, _model: str, _body: dict[str, Any]) -> None:
        """Bedrock's Converse."""
        self._say(200, CONVERSED, {"x-amzn-RequestId": "r1"})

    def converse_stream(self, _model: str, _body: dict[str, Any]) -> None:
        """Bedrock's ConverseStream."""
        self._stream("application/vnd.amazon.eventstream", converse_events())

    def invoke(self, _model: str, _body: dict[str, Any]) -> None:
        """Bedrock's InvokeModel: the body is the model's own, the counts are headers."""
        counts = {
            "x-amzn-RequestId": "r2",
            "X-Amzn-Bedrock-Input-Token-Count": str(PROMPT),
            "X-Amzn-Bedrock-Output-Token-Count": str(OUTPUT),
        }
        self._say(200, {"outputText": "Hello."}, counts)

    def invoke_stream(self, _model: str, _body: dict[str, Any]) -> None:
        """Bedrock's InvokeModelWithResponseStream."""
        self._stream("application/vnd.amazon.eventstream", invoke_events())


_ANSWERS: dict[str, Any] = {
    "/chat/completions": Handler.chat,
    "/messages": Handler.messages,
    "/responses": Handler.respond,
    "/embeddings": Handler.embeddings,
    ":generateContent": Handler.generate,
    ":streamGenerateContent": Handler.generate_stream,
    "/tgi": Handler.tgi,
    "/converse": Handler.converse,
    "/converse-stream": Handler.converse_stream,
    "/invoke": Handler.invoke,
    "/invoke-with-response-stream": Handler.invoke_stream,
}


def _then(first: Iterator[bytes], last: bytes) -> Iterator[bytes]:
    yield from first
    yield last


class Apis:
    """All stand-ins on one port, while the context lasts."""

    def __enter__(self) -> "Apis":
        Handler.asked.clear()
        Handler.stops.clear()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self.asked = Handler.asked
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        Handler.stops.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)
