"""Which engine computes a request: the one it names, else its model's, else who its process talks to, else itself.

A gateway names the address of the server that it asked: its own process computes nothing.
"""

from collections.abc import Callable, Iterable

from inferwatt.engines.session import Incoming
from inferwatt.records import Engine
from inferwatt.units import NS_PER_SECOND

RESOLVE_NS = NS_PER_SECOND // 2
"""How long a request may wait until its connection shows which server it talks to."""
NAMED_NS = 2 * NS_PER_SECOND
"""How long one may wait that names its server's address: one that has just been started is found a little later."""
SDK_KIND = "sdk"
_HERE = "127.0.0.1:"
Route = tuple[str, str, str]
"""A producer, what it names as the engine, and the model: requests that have these in common have one engine."""


class Routes:
    """Finds each request's engine, and keeps those that wait for theirs.

    Args:
        engines: the engines that are known now.
        talks_to: whether a process holds a connection to the server at a url.
    """

    def __init__(self, engines: Callable[[], Iterable[Engine]], talks_to: Callable[[int, str], bool]) -> None:
        self._engines = engines
        self._talks_to = talks_to
        self._urls: dict[str, str] = {}
        self._known: dict[Route, str] = {}
        self._waiting: dict[Route, list[Incoming]] = {}
        self._count = 0

    def add_server(self, engine: str, url: str) -> None:
        """Note where an engine's server listens; whoever was taken elsewhere may have meant this one."""
        if self._urls.get(engine) != url:
            self._urls[engine] = url
            self._known.clear()

    def engine_of(self, incoming: Incoming) -> str | None:
        """Return the engine that computes the request, None where it has to wait for one, with others of its route."""
        route = _route(incoming)
        engine = None if route in self._waiting else self._find(incoming)
        if engine is None:
            self._waiting.setdefault(route, []).append(incoming)
        return engine

    def ready(self, now_ns: int, *, all_of_them: bool = False) -> list[tuple[Incoming, str]]:
        """Return the requests whose wait is over, with their engines: without a server, that is their own process.

        One that names an address where no server is known keeps that, which no engine is called.
        """
        done: list[tuple[Incoming, str]] = []
        for route, waiting in list(self._waiting.items()):
            engine = self._find(waiting[0])
            named = route[1]
            most_ns = NAMED_NS if "://" in named else RESOLVE_NS
            if engine is None and (all_of_them or now_ns - waiting[0].received_ns >= most_ns):
                engine = self._known[route] = named if "://" in named else f"{SDK_KIND}:{waiting[0].pid}"
            if engine is not None:
                del self._waiting[route]
                done += [(incoming, engine) for incoming in waiting]
        return done

    def forget(self, producer: str) -> None:
        """Forget a producer that is gone for good."""
        self._known = {route: engine for route, engine in self._known.items() if route[0] != producer}

    def _find(self, incoming: Incoming) -> str | None:
        named = incoming.request.engine
        for engine in self._engines() if named else ():
            if named in {engine.engine, engine.server}:
                return engine.engine
        route = _route(incoming)
        engines = [engine for engine in self._engines() if engine.kind != SDK_KIND]
        if len(engines) != self._count:  # what was found among fewer may have been the wrong one
            self._count = len(engines)
            self._known.clear()
        known = self._known.get(route)
        if known is not None:
            return known
        there = [e for e in engines if "://" in named and self._place(e) == _at(named)]
        engines = there or [e for e in engines if not (_is_here(_at(named)) and _is_here(self._place(e)))]
        found = there if len(there) == 1 else []
        found = found or [e for e in engines if e.model and e.model.casefold() == incoming.request.model.casefold()]
        if len(found) != 1:
            found = [e for e in found or engines if self._talks_to(incoming.pid, self._urls.get(e.engine, ""))]
        if len(found) != 1:
            return None
        self._known[route] = found[0].engine
        return found[0].engine

    def _place(self, engine: Engine) -> str:
        return _at(self._urls.get(engine.engine, ""))


def _route(incoming: Incoming) -> Route:
    return incoming.producer, incoming.request.engine, incoming.request.model


def _at(url: str) -> str:
    """Return host and port of an address, this machine by one name."""
    place = url.partition("://")[2].partition("/")[0].casefold()
    return place.replace("localhost:", _HERE).replace("[::1]:", _HERE)


def _is_here(place: str) -> bool:
    """Whether a place is this machine's for sure: another name may be too."""
    return place.startswith(_HERE)
