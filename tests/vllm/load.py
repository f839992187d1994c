"""Clients of an OpenAI server, of every kind that differs for the meter; each notes what it was told itself."""

import http.client
import json
import random
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from urllib.parse import urlsplit

from tests.vllm.server import MODEL

KINDS = ("plain", "stream", "prefix", "two", "stop", "token", "leaves_decode", "leaves_prefill")
"""What every run asks; besides there are `several`, which ends within a step of several tokens, and `long`."""
PREFIX = "The energy of a request is what its tokens cost, and a shared prefix costs only once. " * 4
LETTERS = list("etao")
LEAVES_AFTER_CHUNKS = 8


@dataclass(slots=True)
class Told:
    """What one client knows of its request: its own id, and the tokens by the server's answer (None: it left)."""

    request_id: str
    kind: str
    answers: int = 1
    model: str = MODEL
    prompt: int | None = None
    cached: int | None = None
    output: int | None = None
    chunks: int = 0
    finish: str = ""
    error: str = ""

    @property
    def may_be_unheard(self) -> bool:
        """Whether it went away so soon that the engine may never have heard of it."""
        return self.kind == "leaves_prefill"

    @property
    def has_left(self) -> bool:
        """Whether it went away before the end."""
        return self.kind.startswith("leaves")


class Load:
    """`count` requests of mixed kinds, at most `at_once` at a time."""

    def __init__(
        self,
        url: str,
        count: int,
        *,
        at_once: int = 8,
        seed: int = 1,
        kinds: tuple[str, ...] = KINDS,
        models: tuple[str, ...] = (MODEL,),
        headers: Mapping[str, str] | None = None,
        pause_seconds: float = 0.0,
        leaves_seconds: float = 0.03,
    ) -> None:
        self._pause_seconds, self._leaves_seconds = pause_seconds, leaves_seconds
        self._headers = dict(headers or {})
        self.told: list[Told] = []
        self._address = urlsplit(url)
        self._pending = iter(list(_plan(count, seed, kinds, models)))
        self._lock = threading.Lock()
        self._stopping = False
        self._threads = [threading.Thread(target=self._ask_all, daemon=True) for _ in range(at_once)]

    def start(self) -> None:
        """Begin to ask."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> list[Told]:
        """Ask nothing more, and return what was told."""
        self._stopping = True
        return self.wait()

    def wait(self) -> list[Told]:
        """Return what every client was told."""
        for thread in self._threads:
            thread.join(180)
            assert not thread.is_alive(), "a client hangs"
        return self.told

    def run(self) -> list[Told]:
        """Ask all, and return what was told."""
        self.start()
        return self.wait()

    def _ask_all(self) -> None:
        while True:
            with self._lock:
                told, rng = next(self._pending, (None, None))
                if told is None or rng is None or self._stopping:
                    return
                self.told.append(told)
            try:
                self._ask(told, rng)
            except (OSError, http.client.HTTPException, ValueError) as exc:
                told.error = repr(exc)
            time.sleep(self._pause_seconds)

    def _ask(self, told: Told, rng: random.Random) -> None:
        with closing(http.client.HTTPConnection(self._address.netloc, timeout=120)) as connection:
            self._talk(connection, told, rng)

    def _talk(self, connection: http.client.HTTPConnection, told: Told, rng: random.Random) -> None:
        body = _body(told, rng)
        headers = {"content-type": "application/json", "X-Request-Id": told.request_id, **self._headers}
        path = "/v1/completions" if told.kind in {"two", "prefix"} else "/v1/chat/completions"
        connection.request("POST", path, json.dumps(body), headers)
        if told.kind == "leaves_prefill":
            time.sleep(rng.uniform(0.001, self._leaves_seconds))
            return
        with closing(connection.getresponse()) as answer:
            if answer.status != 200:
                raise ValueError(answer.read().decode())
            if body.get("stream"):
                _read_stream(told, answer)
            else:
                page = json.loads(answer.read())
                _usage(told, page["usage"])
                told.finish = page["choices"][0]["finish_reason"]


def _plan(
    count: int, seed: int, kinds: tuple[str, ...], models: tuple[str, ...]
) -> Iterator[tuple[Told, random.Random]]:
    for number in range(count):
        kind, model = kinds[number % len(kinds)], models[number % len(models)]
        yield Told(f"t{seed}-{number}", kind, 2 if kind == "two" else 1, model), random.Random(seed * 1000 + number)


def _body(told: Told, rng: random.Random) -> dict[str, object]:
    words = "".join(rng.choice("abcdefghij ") for _ in range(rng.randint(5, 120)))
    body: dict[str, object] = {"model": told.model, "max_tokens": rng.randint(1, 60), "temperature": 1.0}
    if told.kind in {"two", "prefix"}:
        body["prompt"] = PREFIX + words if told.kind == "prefix" else words
        return body | ({"n": 2} if told.kind == "two" else {})
    if told.kind == "leaves_prefill":
        words = words * 20  # several chunks of a prefill
    body["messages"] = [{"role": "user", "content": words[:850]}]
    if told.kind == "stop":
        body |= {"stop": LETTERS, "max_tokens": 400}
    if told.kind == "several":  # greedy, it goes in circles: drafts are accepted, and a string ends within a step
        allowed = [1 + ord(letter) - ord("!") for letter in LETTERS]  # tokens are bytes in their order, after <eos>
        body |= {"temperature": 0.0, "min_tokens": rng.randint(12, 24), "max_tokens": 60}
        body |= {"stop": LETTERS, "allowed_token_ids": allowed}
    if told.kind == "token":
        body |= {"stop_token_ids": list(range(30)), "min_tokens": 2}  # a tenth of all there are
    if told.kind in {"stream", "leaves_decode", "long"}:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    if told.has_left or told.kind == "long":
        body |= {"max_tokens": 100 if told.kind == "leaves_prefill" else 850, "ignore_eos": True}
    return body


def _read_stream(told: Told, answer: http.client.HTTPResponse) -> None:
    for line in answer:
        if not line.startswith(b"data: {"):
            continue
        event = json.loads(line[6:])
        if "error" in event:
            raise ValueError(event["error"])
        if event.get("usage"):
            _usage(told, event["usage"])
        told.chunks += bool(event["choices"])
        told.finish = next((one["finish_reason"] for one in event["choices"] if one["finish_reason"]), told.finish)
        if told.kind == "leaves_decode" and told.chunks > LEAVES_AFTER_CHUNKS:
            return


def _usage(told: Told, usage: dict[str, object]) -> None:
    told.prompt, told.output = int(str(usage["prompt_tokens"])), int(str(usage["completion_tokens"]))
    details = usage.get("prompt_tokens_details")
    told.cached = details.get("cached_tokens") if isinstance(details, dict) else None
