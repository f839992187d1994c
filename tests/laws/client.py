"""A producer in another process, as the SDK is, with a connection that breaks at random."""

import random
from dataclasses import replace

from inferwatt import wire
from inferwatt.endpoint import Peer
from inferwatt.engines.session import Reception, Session
from inferwatt.records import (
    Outcome,
    Request,
)


class Client:
    """A producer in another process, as the SDK is: it keeps what is not acknowledged and sends it again."""

    def __init__(self, number: int, chance: random.Random) -> None:
        self.producer = f"{number:032x}"
        self.chance = chance
        self.seq = 0
        self.unacked: dict[int, list[Request]] = {}
        self.open: dict[str, Request] = {}
        self.acked: set[str] = set()
        self.made = 0
        self.session: Session | None = None
        self.answers = wire.Decoder()

    def connect(self, reception: Reception, now_ns: int) -> None:
        """Connect and send again what was not acknowledged."""
        self.session = reception.open(Peer(pid=77, uid=0, gid=0))
        self.answers = wire.Decoder()
        hello = {
            "t": "hello", "v": 1, "producer": self.producer, "kind": "sdk", "pid": 77, "boot_id": "boot",
            "monotonic_ns": now_ns, "unix_ns": now_ns,
        }  # fmt: skip
        self.session.feed(wire.encode(hello), now_ns)
        for seq, requests in list(self.unacked.items()):
            self._write(seq, requests, now_ns)
        if self.open:
            self.send(list(self.open.values()), now_ns)

    def send(self, requests: list[Request], now_ns: int) -> None:
        """Hand in records; they are kept until they are acknowledged."""
        self.seq += 1
        self.unacked[self.seq] = requests
        self._write(self.seq, requests, now_ns)

    def _write(self, seq: int, requests: list[Request], now_ns: int) -> None:
        if self.session is None:
            return
        message = {"t": "records", "seq": seq, "records": [wire.request_to_wire(r) for r in requests]}
        data = wire.encode(message)
        if self.chance.random() < 0.02:
            data = data[: self.chance.randint(0, len(data))]
            self.session.feed(data, now_ns)
            self.session = None
            return
        self.session.feed(data, now_ns)

    def act(self, now_ns: int) -> None:
        """Begin, go on with, or end a request."""
        if self.open and self.chance.random() < 0.5:
            name = self.chance.choice(list(self.open))
            request = self.open[name]
            if request.first_token_ns is None and self.chance.random() < 0.5:
                self.open[name] = replace(request, first_token_ns=now_ns)
            else:
                outcome = self.chance.choice(list(Outcome))
                tokens = self.chance.choice([None, 0, 5, 400])
                ended = replace(request, end_ns=now_ns, outcome=outcome, prompt_tokens=20, output_tokens=tokens)
                del self.open[name]
                self.send([ended], now_ns)
                return
            self.send([self.open[name]], now_ns)
        else:
            self.made += 1
            model = self.chance.choice(["m", "m", "other"])
            request = Request(f"r{self.made}", model=model, tenant=self.chance.choice("ab"), arrival_ns=now_ns)
            self.open[request.request] = request
            self.send([request], now_ns)

    def listen(self) -> None:
        """Take in acknowledgements."""
        if self.session is None:
            return
        data, self.session.out = bytes(self.session.out), bytearray()
        for message in self.answers.feed(data):
            if isinstance(message, dict) and message["t"] == "ack":
                for seq in [s for s in self.unacked if s <= message["seq"]]:
                    self.acked |= {r.request for r in self.unacked.pop(seq) if r.end_ns is not None}
