"""What the gateway stands before: which server a model is asked of, and what is asked over which connections."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from inferwatt.errors import ConfigError
from inferwatt.gateway.lately import Lately
from inferwatt.gateway.settings import UpstreamConfig


@dataclass(slots=True, eq=False)
class Upstream:
    """One server, with its key, and what was learnt of it."""

    config: UpstreamConfig
    key: str = field(default="", repr=False)
    tells_unasked: bool = False
    """llama.cpp tells its tokens with every answer, and elsewhere if it is asked for them."""
    lately: Lately = field(default_factory=Lately)

    @property
    def is_asked_usage(self) -> bool:
        """Whether it has to be asked for the usage of a stream."""
        return self.config.ask_usage and not self.tells_unasked

    @property
    def engine(self) -> str:
        """Which server the agent is told to have computed a call: its name there, else its address."""
        return self.config.server or self.config.url.rstrip("/").removesuffix("/v1")

    def heard(self, headers: Mapping[str, str]) -> None:
        """Learn from the headers of an answer."""
        self.tells_unasked = headers.get("server") == "llama.cpp"

    def address(self, path: str, query: str) -> str:
        """Return where a call goes: a base that ends with /v1 is not given twice."""
        base = self.config.url.rstrip("/")
        if base.endswith("/v1") and path.startswith("/v1/"):
            base = base[:-3]
        return f"{base}{path}?{query}" if query else base + path

    def serves(self, model: str) -> bool:
        """Whether it is asked for a model."""
        return any(fnmatchcase(model, pattern) for pattern in self.config.models)


class Upstreams:
    """All of them; those that serve one model take turns, and stand in for each other."""

    def __init__(self, all_of_them: Sequence[Upstream]) -> None:
        self.all = tuple(all_of_them)
        self._turn = itertools.count()

    def of(self, model: str) -> list[Upstream]:
        """Return who can be asked for a model: who names it before who takes any, each in turn."""
        serving = [one for one in self.all if one.serves(model)]
        named = [one for one in serving if "*" not in one.config.models] or serving
        if len(named) < 2:
            return named
        first = next(self._turn) % len(named)
        return named[first:] + named[:first]


def open_upstreams(configs: Sequence[UpstreamConfig]) -> Upstreams:
    """Return the configured servers.

    Raises:
        ConfigError: there is none, two have one name, or a key cannot be read.
    """
    if not configs:
        fix = "inferwatt gateway --upstream http://127.0.0.1:8080"
        raise ConfigError("the gateway has nothing to stand before", where="gateway.upstream", fix=fix)
    names = [one.name for one in configs]
    if len(set(names)) < len(names):
        raise ConfigError("two upstreams have one name", where="gateway.upstream.name", fix="name each once")
    return Upstreams([Upstream(one, read_secret(one.key_file, f"gateway.upstream {one.name}")) for one in configs])


def read_secret(file: str, where: str) -> str:
    """Return the first word of a file, nothing where no file is named.

    Raises:
        ConfigError: it cannot be read, or is empty.
    """
    if not file:
        return ""
    try:
        words = Path(file).read_text(encoding="ascii").split()
    except (OSError, ValueError) as exc:
        why = getattr(exc, "strerror", None) or "it is not ASCII text"
        raise ConfigError(f"cannot read a secret: {why}", where=f"{where}: {file}", fix="name a file with it") from None
    if not words:
        raise ConfigError("a secret is empty", where=f"{where}: {file}", fix="write it into the file")
    return words[0]
