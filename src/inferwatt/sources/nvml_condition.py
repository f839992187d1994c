"""How a GPU is beside its energy: temperature, clock, utilisation, power limit, and how long it was throttled by what.

Every field is optional on some GPU (GB10 lacks memory information, MIG lacks utilisation, consumer boards lack
policies): one that is not answered is None, and is not asked again for a minute.

Throttled time is read from the fields 74 to 79 (NVML_FI_DEV_PERF_POLICY_*, cumulative nanoseconds). The newer
NVML_FI_DEV_CLOCKS_EVENT_REASON_* fields are not used: their numbers moved between releases (251 became 269), so that
the same question asks an older driver for something else. nvmlDeviceGetViolationStatus, which CUDA 14 will remove, is
asked where the fields have no answer. Low utilisation (78) is left out: an idle GPU is not throttled.
"""

import ctypes
from collections.abc import Iterable, Mapping

from inferwatt.records import Condition
from inferwatt.sources.nvml_api import Call, FieldValue, Handle, Session
from inferwatt.sources.nvml_errors import SUCCESS
from inferwatt.units import NS_PER_SECOND

PERIOD_NS = NS_PER_SECOND
ASK_AGAIN_NS = 60 * NS_PER_SECOND
_HERTZ_PER_MEGAHERTZ = 1_000_000
_CLOCK_SM = 1
_TEMPERATURE_GPU = 0
_TEMPERATURE_VERSION = 0x0100_000C
_POLICIES = {"power": 0, "thermal": 1, "sync_boost": 2, "board_limit": 3, "reliability": 5}
_FIRST_POLICY_FIELD = 74


class _Temperature(ctypes.Structure):
    """nvmlTemperature_v1_t."""

    _fields_ = (("version", ctypes.c_uint), ("sensor", ctypes.c_uint), ("celsius", ctypes.c_int))


class _Utilization(ctypes.Structure):
    """nvmlUtilization_t: percent of the last sample period in which any kernel ran, or memory was used."""

    _fields_ = (("gpu", ctypes.c_uint), ("memory", ctypes.c_uint))


class _Violation(ctypes.Structure):
    """nvmlViolationTime_t."""

    _fields_ = (("reference_us", ctypes.c_ulonglong), ("throttled_ns", ctypes.c_ulonglong))


class Optional:
    """A call whose answer is welcome: after a failure it is not made again for a while."""

    __slots__ = ("_arguments", "_call", "_retry_ns")

    def __init__(self, call: Call, *arguments: object) -> None:
        self._call = call
        self._arguments = arguments
        self._retry_ns = 0

    def __call__(self, now_ns: int) -> bool:
        """Ask, and return whether there is an answer."""
        if now_ns < self._retry_ns:
            return False
        if self._call(*self._arguments) == SUCCESS:
            return True
        self._retry_ns = now_ns + ASK_AGAIN_NS
        return False


class ConditionReader:
    """Reads a GPU's condition; every structure is made once, as this is done each second for as long as it lives."""

    def __init__(self, session: Session, handle: Handle, device: str) -> None:
        self._device = device
        self._celsius = ctypes.c_uint()
        self._temperature = _Temperature(_TEMPERATURE_VERSION, _TEMPERATURE_GPU, 0)
        self._megahertz = ctypes.c_uint()
        self._rates = _Utilization()
        self._limit_mw = ctypes.c_uint()

        def ask(name: str, *arguments: object) -> Optional:
            return Optional(session.bind(name), handle, *arguments)

        self._ask_temperature_v = ask("nvmlDeviceGetTemperatureV", ctypes.byref(self._temperature))
        self._ask_temperature = ask(
            "nvmlDeviceGetTemperature", ctypes.c_uint(_TEMPERATURE_GPU), ctypes.byref(self._celsius)
        )
        self._ask_clock = ask("nvmlDeviceGetClockInfo", ctypes.c_uint(_CLOCK_SM), ctypes.byref(self._megahertz))
        self._ask_rates = ask("nvmlDeviceGetUtilizationRates", ctypes.byref(self._rates))
        self._ask_limit = ask("nvmlDeviceGetEnforcedPowerLimit", ctypes.byref(self._limit_mw))
        self._throttles = _Throttles(session, handle)

    def read(self, now_ns: int) -> Condition:
        """Return how the GPU is; what it does not say is None."""
        return Condition(
            now_ns,
            self._device,
            utilization_ratio=self.utilization_ratio(now_ns),
            clock_hertz=self._megahertz.value * _HERTZ_PER_MEGAHERTZ if self._ask_clock(now_ns) else None,
            temperature_celsius=self._read_celsius(now_ns),
            power_limit_watts=self._limit_mw.value / 1000 if self._ask_limit(now_ns) else None,
            throttled_ns=self._throttles.read(now_ns),
        )

    def utilization_ratio(self, now_ns: int) -> float | None:
        """Return the part of the last sample period in which the GPU worked, None where it does not say (MIG)."""
        return min(self._rates.gpu / 100, 1.0) if self._ask_rates(now_ns) else None

    def _read_celsius(self, now_ns: int) -> float | None:
        if self._ask_temperature_v(now_ns):
            return float(self._temperature.celsius)
        return float(self._celsius.value) if self._ask_temperature(now_ns) else None


class _Throttles:
    """The cumulative time for which each policy held the clocks down."""

    def __init__(self, session: Session, handle: Handle) -> None:
        self._fields = (FieldValue * len(_POLICIES))()
        count = ctypes.c_int(len(_POLICIES))
        self._ask_fields = Optional(session.bind("nvmlDeviceGetFieldValues"), handle, count, self._fields)
        self._violation = _Violation()
        status = session.bind("nvmlDeviceGetViolationStatus")
        into = ctypes.byref(self._violation)
        self._ask_status = {
            reason: Optional(status, handle, ctypes.c_uint(policy), into) for reason, policy in _POLICIES.items()
        }
        for field, policy in zip(self._fields, _POLICIES.values(), strict=True):
            field.field = _FIRST_POLICY_FIELD + policy

    def read(self, now_ns: int) -> Mapping[str, int]:
        """Return nanoseconds by reason; a reason that the GPU does not count is absent."""
        if self._ask_fields(now_ns) and (answered := dict(self._answers())):
            return answered
        return {reason: int(self._violation.throttled_ns) for reason, ask in self._ask_status.items() if ask(now_ns)}

    def _answers(self) -> Iterable[tuple[str, int]]:
        for reason, field in zip(_POLICIES, self._fields, strict=True):
            throttled_ns = field.number()
            if throttled_ns is not None:
                yield reason, throttled_ns
