"""AMD's Python package `amdsmi`, contained: imported once, its codes mapped by a table, its "N/A" made None.

`import amdsmi` binds its C library at once. Without the library it prints to standard output and raises KeyError; where
the library is older than the package, and so one of about 184 symbols is missing, AttributeError. Each is one `Lack`.

The library may be initialised and shut down once for all who use it: `open` and `close` count them, under a lock. Reads
take no lock, since one that hangs would hold it for ever: they come from the sampler's one thread, which is also what
libraries before 26.2 need (they are not thread-safe: amdsmi issue 115, and Zeus's notes in ``gpu/amd.py``).

The library finds the GPUs when it is initialised, and a handle dies with its shut-down: a GPU that came back is made
visible by `restart`, which gives every other GPU its new handle in the same breath.
"""

import importlib
import io
import threading
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout, suppress
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from inferwatt.errors import InferwattError, SourceGone, SourceRetry
from inferwatt.snapshot import Lack
from inferwatt.sources.amdsmi_status import NONE_NEEDED, REINSTALL, Handling, status

Handle = Any
"""A processor handle of the library: opaque."""
Answer = Any
"""What the package answers: a dictionary, a number, a text, or the text "N/A"."""
INSTALL = "pip install 'inferwatt[amd]'"
INSTALL_LIBRARY = "sudo apt install amd-smi-lib  # from AMD's ROCm repository; or set ROCM_PATH to where ROCm is"
ROCM_VERSION = Path("/opt/rocm/.info/version")
_MOST_WATTS = 0xFFFF
_POWER_KEYS = ("current_socket_power", "average_socket_power", "socket_power")
"""MI300 and newer fill in the first, MI200 and Radeon the second; the third is amdsmi 7's choice between them."""


Handles = Mapping[str, Sequence[Handle]]
"""The handles by PCI place (address without function), the first partition first."""


class Unsupported(SourceRetry):
    """This device never tells this."""


class User(Protocol):
    """What holds handles: a GPU that is read."""

    busy: bool
    places: Sequence[str]

    def rebind(self, handles: Handles) -> None:
        """Take new handles: the library was initialised anew."""
        ...


@cache
def load() -> "AmdSmi | Lack":
    """Import the package, once in the life of this process."""
    said = io.StringIO()
    try:
        with redirect_stdout(said):  # without its library the package prints why: our answer, and not our output
            return AmdSmi(importlib.import_module("amdsmi"))
    except Exception as exc:  # noqa: BLE001 - another's import: whatever it raises is one lack, and sysfs is read instead
        return _unloaded(exc, said.getvalue())


class AmdSmi:
    """The calls that are needed; a value that the device does not tell is None."""

    def __init__(self, module: ModuleType) -> None:
        self.known: set[str] = set()
        """The PCI places of all GPUs that were ever read."""
        self.searches = 0
        """How often in a row one of them was looked for in vain."""
        self._module = module
        self._lock = threading.Lock()
        self._holds = 0
        self._users: list[User] = []
        self._addresses: dict[int, str] = {}
        self._restarter: int | None = None

    def open(self) -> None:
        """Hold it open; the first call initialises the library.

        Raises:
            SourceRetry, SourceGone: it cannot be initialised, with the reason and what to do.
        """
        with self._lock:
            if self._holds == 0:
                self._init()
            self._holds += 1

    def close(self) -> None:
        """Let go; the last call shuts the library down."""
        with self._lock:
            self._holds -= 1
            if self._holds == 0 and self._restarter is None:
                self._shut_down()

    def join(self, user: User) -> None:
        """Hold it open for a GPU that is read, and remember to give it new handles after a restart."""
        with self._lock:
            self._holds += 1
            self._users.append(user)
            self.known.update(user.places)

    def leave(self, user: User) -> None:
        """Forget a GPU, and let go."""
        with self._lock:
            self._users.remove(user)
        self.close()

    def in_flight(self) -> set[str]:
        """Return the places of the GPUs whose call has not come back: another call would hang as well."""
        with self._lock:
            return {place for user in self._users if user.busy for place in user.places}

    def restart(self) -> bool:
        """Initialise the library anew, so that it sees a GPU that came back; False where a call is in flight.

        No lock is held meanwhile, and other threads are told to ask again. A restart that fails leaves the library
        uninitialised: each GPU then says so at its next read, and is looked for.
        """
        with self._lock:
            if self._restarter is not None or any(user.busy for user in self._users):
                return False
            self._restarter = threading.get_ident()
        handles: Handles = {}
        try:
            self._shut_down()
            self._init()
            handles = self.handles()
        except InferwattError:
            return False
        finally:
            with self._lock:
                self._restarter = None
                for user in self._users:
                    user.rebind(handles)
                if self._holds == 0:
                    self._shut_down()
        return True

    def _init(self) -> None:
        self._addresses.clear()
        self.call("amdsmi_init")

    def _shut_down(self) -> None:
        with suppress(InferwattError):  # other code of this process may have done it
            self.call("amdsmi_shut_down")

    def handles(self) -> Handles:
        """Return the handles of the GPUs that the library shows; each is asked once where it is: it may hang later."""
        found: dict[str, list[tuple[str, Handle]]] = {}
        for handle in self.call("amdsmi_get_processor_handles"):
            address = self._addresses.get(handle.value) or self.told("amdsmi_get_gpu_device_bdf", handle)
            if isinstance(address, str):
                self._addresses[handle.value] = address
                found.setdefault(address.partition(".")[0].lower(), []).append((address, handle))
        return {place: [handle for _, handle in sorted(named, key=lambda n: n[0])] for place, named in found.items()}

    def energy(self, handle: Handle) -> tuple[int, float]:
        """Return the energy accumulator and its resolution in µJ (the key was ``power`` before amdsmi 6.4).

        Raises:
            SourceRetry, SourceGone: there is none now.
        """
        answer = self.call("amdsmi_get_energy_count", handle)
        accumulator = _whole(answer.get("energy_accumulator", answer.get("power")))
        resolution = answer.get("counter_resolution")
        if accumulator is None or not isinstance(resolution, float):
            raise SourceRetry("amdsmi_get_energy_count: no number", where="libamd_smi.so", fix=NONE_NEEDED)
        return accumulator, resolution

    def power_mw(self, handle: Handle) -> int | None:
        """Return the socket's power; the sensor says whole watts."""
        answer = self.call("amdsmi_get_power_info", handle)
        for key in _POWER_KEYS:
            power_watts = _whole(answer.get(key))
            if power_watts is not None and power_watts < _MOST_WATTS:
                return power_watts * 1000
        return None

    def utilization_ratio(self, handle: Handle) -> float | None:
        """Return how busy the compute engine is."""
        percent = _whole(self._field("amdsmi_get_gpu_activity", "gfx_activity", handle))
        return percent / 100 if percent is not None and percent <= 100 else None

    def temperature_celsius(self, handle: Handle) -> float | None:
        """Return the temperature of the hottest spot; at the edge where there is no other."""
        kinds, metrics = self._module.AmdSmiTemperatureType, self._module.AmdSmiTemperatureMetric
        for kind in (kinds.HOTSPOT, kinds.EDGE):
            celsius = _whole(self.told("amdsmi_get_temp_metric", handle, kind, metrics.CURRENT))
            if celsius is not None and 0 < celsius < 200:
                return float(celsius)
        return None

    def clock_hertz(self, handle: Handle) -> float | None:
        """Return the clock of the compute engine; the library says MHz."""
        megahertz = _whole(self._field("amdsmi_get_clock_info", "clk", handle, self._module.AmdSmiClkType.GFX))
        return megahertz * 1e6 if megahertz is not None and megahertz < _MOST_WATTS else None

    def power_limits_watts(self, handle: Handle) -> tuple[float | None, float | None]:
        """Return the power cap that is set, and the highest that can be; the library says µW."""
        answer = self.told("amdsmi_get_power_cap_info", handle) or {}
        limits = (_whole(answer.get(key)) for key in ("power_cap", "max_power_cap"))
        now, most = (uw / 1e6 if uw else None for uw in limits)
        return now, most

    def identity(self, handle: Handle) -> tuple[str, str]:
        """Return the market name and the uuid; empty where they are not told."""
        answer = self.told("amdsmi_get_gpu_asic_info", handle)
        if not isinstance(answer, dict):
            return "", ""  # asked for a uuid then, the library prints on standard output
        return _words(answer.get("market_name")), _words(self.told("amdsmi_get_gpu_device_uuid", handle))

    def driver(self, handle: Handle) -> str:
        """Return the driver's version; empty where it is not told."""
        return _words(self._field("amdsmi_get_gpu_driver_info", "driver_version", handle))

    def told(self, name: str, *arguments: object) -> Answer:
        """Call what may not be told: None then."""
        try:
            return self.call(name, *arguments)
        except (SourceRetry, SourceGone):
            return None

    def call(self, name: str, *arguments: object) -> Answer:
        """Call the package.

        Raises:
            SourceRetry: it failed, the next call may work; as `Unsupported` where it never will.
            SourceGone: the device is not there any more.
        """
        if self._restarter not in (None, threading.get_ident()):
            raise SourceRetry(f"{name}: the library is initialised anew", where="libamd_smi.so", fix=NONE_NEEDED)
        function = getattr(self._module, name, None)
        if function is None:
            raise Unsupported(f"this amdsmi has no {name}", where="amdsmi", fix=REINSTALL)
        try:
            return function(*arguments)
        except self._module.AmdSmiLibraryException as exc:
            raise _mapped(name, exc.get_error_code()) from exc
        except (self._module.AmdSmiException, ValueError, KeyError, TypeError) as exc:
            what = f"{name}: amdsmi cannot read its own library: {type(exc).__name__}: {exc}"
            raise SourceRetry(what, where="amdsmi", fix=NONE_NEEDED) from exc

    def _field(self, name: str, key: str, *arguments: object) -> Answer:
        answer = self.told(name, *arguments)
        return answer.get(key) if isinstance(answer, dict) else None


def _mapped(name: str, code: int) -> InferwattError:
    meaning = status(code)
    kinds = {Handling.GONE: SourceGone, Handling.UNSUPPORTED: Unsupported, Handling.RETRY: SourceRetry}
    return kinds[meaning.handling](f"{name}: {meaning.words} (code {code})", where="libamd_smi.so", fix=meaning.fix)


def _unloaded(exc: Exception, said: str) -> Lack:
    """Return what keeps the package from being loaded, and the command that helps."""
    if isinstance(exc, ImportError):
        return _lack("the Python package amdsmi is not installed", f"{type(exc).__name__}: {exc}", INSTALL)
    if isinstance(exc, KeyError | OSError):
        why = said.partition("\n")[0] or str(exc)
        return _lack("AMD's library libamd_smi.so cannot be loaded", why, INSTALL_LIBRARY)
    if isinstance(exc, AttributeError):
        return _lack("the Python package amdsmi is newer than the installed ROCm", str(exc), _matching())
    return _lack("the Python package amdsmi cannot be imported", f"{type(exc).__name__}: {exc}", REINSTALL)


def _lack(what: str, where: str, fix: str) -> Lack:
    return Lack(f"{what}: AMD GPUs are read by sysfs, their power summed up", where, fix, "amdsmi", "accelerator")


def _matching() -> str:
    """Return the command that installs the package of the installed ROCm."""
    try:
        major, minor, *_ = ROCM_VERSION.read_text().strip().split(".")
    except (OSError, ValueError):
        return REINSTALL
    return f"pip install 'amdsmi=={major}.{minor}.*'  # the version of this machine's ROCm"


def _whole(value: object) -> int | None:
    """Return a whole number that is not negative; None for "N/A" and whatever else the package says."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _words(value: object) -> str:
    return value if isinstance(value, str) and value != "N/A" else ""
