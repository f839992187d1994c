"""`instrument()`: from here on the calls of client libraries say what they took; `uninstrument()` undoes it.

A library is instrumented when it is loaded: at once where it is, else as soon as the host loads it. None is loaded for
our sake. Standard library only.
"""

import os
import sys
import threading
from collections.abc import Iterable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from inferwatt.clients import telling
from inferwatt.clients.border import guarded
from inferwatt.clients.carbon import intensity, of_environment
from inferwatt.clients.estimator import own_registry
from inferwatt.clients.libraries import LIBRARIES, PLACES, Place
from inferwatt.clients.life import instrumented

_changing = threading.RLock()
_changed: dict[Place, tuple[Any, Any, Any]] = {}
"""Where a place was changed: its owner, the function that was there, and ours."""


def instrument(
    *libraries: str, managed: Iterable[str] = (), carbon_grams_per_kwh: float | None = None, carbon_source: str = ""
) -> tuple[str, ...]:
    """Let calls say what they took; return the libraries that are instrumented now, others follow as they are loaded.

    It may be called again: what is instrumented stays, what is named is added.

    Args:
        libraries: openai, anthropic, google-genai, huggingface_hub, boto3, litellm; none named: all of them.
        managed: hosts of your own that pass calls on to a managed API (a proxy in your network).
        carbon_grams_per_kwh: what managed APIs' electricity emits; INFERWATT_ESTIMATES__CARBON_GRAMS_PER_KWH where not
            given. Without either no emissions are told.
        carbon_source: where that figure is from; INFERWATT_ESTIMATES__CARBON_SOURCE.

    Raises:
        ValueError: a library is none of these, or carbon_grams_per_kwh is no intensity or has no source.
    """
    unknown = sorted(set(libraries) - set(LIBRARIES))
    if unknown:
        raise ValueError(f"{unknown[0]} is no library that can be instrumented, must be one of {', '.join(LIBRARIES)}")
    given = intensity(carbon_grams_per_kwh, carbon_source)
    with _changing:
        if (said := given or guarded("the carbon intensity", of_environment, os.environ)) is not None:
            telling.carbon[:] = [said]
        telling.managed.update(host.lower() for host in managed)
        guarded("the registry of models", own_registry)  # now, not in the first call
        instrumented.update(libraries or LIBRARIES)
        if _later not in sys.meta_path:
            sys.meta_path.insert(0, _later)
        for place in PLACES:
            module = sys.modules.get(place.module)
            if module is not None and not getattr(module.__spec__, "_initializing", False):  # else it is changed after
                _change(place, module)
        return tuple(name for name in LIBRARIES if any(place.library == name for place in _changed))


def uninstrument() -> None:
    """Put the functions back that were there; streams that go on are counted to their end."""
    with _changing:
        instrumented.clear()
        telling.managed.clear()
        telling.carbon.clear()
        if _later in sys.meta_path:
            sys.meta_path.remove(_later)
        for owner, original, ours in _changed.values():
            for name in [name for name, value in vars(owner).items() if value is ours]:
                setattr(owner, name, original)
        _changed.clear()


def _change(place: Place, module: ModuleType) -> None:
    if place.library not in instrumented or place in _changed:
        return
    guarded(f"{place.library} ({place.module} {place.method})", _put, place, module)


def _put(place: Place, module: ModuleType) -> None:
    owner = place.owner(module)
    original = vars(owner)[place.method]
    ours = place.wrap(original, place.ask)
    setattr(owner, place.method, ours)
    _changed[place] = owner, original, ours


class _Later(MetaPathFinder):
    """Instruments a library once it is loaded: it finds nothing itself, it only looks on."""

    def __init__(self) -> None:
        self._modules = {place.module for place in PLACES}
        self._busy = threading.local()

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return what the others find, with a loader that looks on."""
        if fullname not in self._modules or getattr(self._busy, "now", False):
            return None
        self._busy.now = True
        try:
            found = (finder.find_spec(fullname, path, target) for finder in sys.meta_path if finder is not self)
            spec = next((one for one in found if one is not None), None)
        finally:
            self._busy.now = False
        if spec is not None and spec.loader is not None:
            spec.loader = _LookingOn(spec.loader)
        return spec


class _LookingOn(Loader):
    """A module's own loader, and what is done after it."""

    def __init__(self, loader: Any) -> None:  # noqa: ANN401
        self._loader = loader

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever its own loader has
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Do what the module's own loader does."""
        made: ModuleType | None = self._loader.create_module(spec)
        return made

    def exec_module(self, module: ModuleType) -> None:
        """Load the module, then instrument it."""
        if module.__spec__ is not None:
            module.__spec__.loader = module.__loader__ = self._loader
        self._loader.exec_module(module)
        with _changing:
            for place in PLACES:
                if place.module == module.__name__:
                    _change(place, module)


_later = _Later()
