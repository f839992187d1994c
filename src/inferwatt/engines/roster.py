"""Which engines a server is: one for each model that it serves, introduced once and again when they change."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from inferwatt.engines.servers import Target, listed_models, model_name, model_shape
from inferwatt.records import NOWHERE, Engine, Event, EventKind, Model, Place


@dataclass(frozen=True, slots=True)
class EngineSeen:
    """A server was found, or what it says of itself changed. `pids` are the processes that listen on its port."""

    t_ns: int
    engine: Engine
    model: Model
    pids: frozenset[int]
    url: str
    version: str
    place: Place = NOWHERE


@dataclass(frozen=True, slots=True)
class Said:
    """What is known of a server: its list of models, its version, the processes behind its address, where they run."""

    listing: object = None
    version: str = ""
    pids: frozenset[int] = frozenset()
    place: Place = NOWHERE


class Roster:
    """The engines of one server. The first model has the server's name; a further one has its own name behind it."""

    def __init__(self, target: Target, emit: Callable[[EngineSeen | Event], None]) -> None:
        self._target = target
        self._emit = emit
        self._names: dict[str, str] = {}
        self._seen: dict[str, EngineSeen] = {}
        self._loaded: set[str] = set()

    @property
    def is_loaded(self) -> bool:
        """Whether any engine is loaded."""
        return bool(self._loaded)

    @property
    def models(self) -> str:
        """The names of the models that are known, as a person reads them."""
        return ", ".join(seen.model.model for model, seen in self._seen.items() if model in self._names)

    @property
    def served(self) -> tuple[str, ...]:
        """The models that are served now."""
        return tuple(self._names)

    def knows(self, models: Collection[str]) -> bool:
        """Return whether all of these are loaded engines."""
        return all(self._names.get(model) in self._loaded for model in models)

    def engine(self, model: str) -> str:
        """Return the name of a model's engine."""
        return self._names.get(model, self._target.name)

    def serve(self, now_ns: int, models: Sequence[str], said: Said | None, why: str) -> None:
        """Take which models are served now, and what the server said of itself where it was asked."""
        self._name(now_ns, models)
        for model in models:
            if said is not None:
                self._introduce(now_ns, model, said, is_only=len(models) == 1)
            name = self._names[model]
            if name not in self._loaded:
                self._loaded.add(name)
                self._event(now_ns, EventKind.MODEL_LOAD, name, why)

    def unload(self, now_ns: int, why: str, models: Collection[str] | None = None) -> None:
        """Say that models are gone; all of them where none is named."""
        names = self._loaded if models is None else {self.engine(model) for model in models} & self._loaded
        for name in sorted(names):
            self._event(now_ns, EventKind.MODEL_UNLOAD, name, why)
        self._loaded -= set(names)

    def _name(self, now_ns: int, models: Sequence[str]) -> None:
        gone = [model for model in self._names if model not in models]
        self.unload(now_ns, "it is not served any more", gone)
        for model in gone:
            del self._names[model]
        for model in models:
            if model not in self._names:
                is_taken = self._target.name in self._names.values()
                self._names[model] = f"{self._target.name}/{model_name(model)}" if is_taken else self._target.name

    def _introduce(self, now_ns: int, model: str, said: Said, *, is_only: bool) -> None:
        """Say who an engine is, where that is new."""
        target, name = self._target, self._names[model]
        shape = self._shape(model, said, is_only=is_only)
        engine = Engine(name, shape.model, target.devices, server=target.name, kind=target.kind)
        seen = EngineSeen(now_ns, engine, shape, said.pids or target.pids, target.url, said.version, said.place)
        before = self._seen.get(model)
        if before is None or replace(seen, t_ns=before.t_ns) != before:
            self._seen[model] = seen
            self._emit(seen)

    def _shape(self, model: str, said: Said, *, is_only: bool) -> Model:
        name = self._target.model if is_only else ""
        listed: Mapping[str, object] = {}
        for entry in listed_models(said.listing):
            if entry.get("id") == model or (is_only and not model):
                listed = entry
                break
        if listed:
            return model_shape(listed, name)
        before = self._seen.get(model)
        return before.model if before is not None else Model(name or model_name(model))

    def _event(self, now_ns: int, kind: EventKind, engine: str, detail: str) -> None:
        self._emit(Event(now_ns, kind, engine=engine, detail=detail))
