"""What a GPU's joules are read from: its counter, a field of it, or its power; which of them it offers, and of what.

Each meter asks one prepared question and returns a reading, or raises the code. It is the hot path: a read of the
counter is one call of the driver and one record.
"""

import ctypes
from typing import Protocol

from inferwatt.records import Provenance, Reading
from inferwatt.sources.nvml_api import GPU_SCOPE, MODULE_SCOPE, FieldValue, Handle, NvmlError, Session
from inferwatt.sources.nvml_errors import FUNCTION_NOT_FOUND, NOT_SUPPORTED, SUCCESS

GPU, MODULE = "gpu", "module"
UJ_PER_MJ = 1000
_FIELD_ENERGY = 191
_FIELD_POWER_INSTANT, _FIELD_POWER_AVERAGE = 186, 185
_OWN_RATIO = 0.98
"""A counter of the GPU alone is below its module's by more than a tick between the two reads."""
_NONE = frozenset({NOT_SUPPORTED, FUNCTION_NOT_FOUND, 26})


class Meter(Protocol):
    """One way to read a GPU's energy or power."""

    provenance: Provenance
    domain: str

    def bind(self, session: Session, handle: Handle) -> None:
        """Ask this handle from now on."""
        ...

    def read(self, now_ns: int) -> Reading:
        """Return the reading at `now_ns`.

        Raises:
            NvmlError: the driver answered with a code.
        """
        ...


class TotalEnergy:
    """The energy counter, millijoules since the driver was loaded."""

    provenance = Provenance.MEASURED

    def __init__(self, device: str, domain: str = GPU) -> None:
        self.domain = domain
        self._device = device
        self._energy_mj = ctypes.c_ulonglong()

    def bind(self, session: Session, handle: Handle) -> None:
        """Ask this handle from now on."""
        self._call = session.bind("nvmlDeviceGetTotalEnergyConsumption")
        self._arguments = (handle, ctypes.byref(self._energy_mj))

    def read(self, now_ns: int) -> Reading:
        """Return the counter."""
        code = self._call(*self._arguments)
        if code:
            raise NvmlError(code)
        return Reading(now_ns, self._device, self._energy_mj.value * UJ_PER_MJ)


class _Field:
    """One field, asked again and again."""

    def __init__(self, device: str, number: int, scope: int) -> None:
        self.domain = GPU if scope == GPU_SCOPE else MODULE
        self._device = device
        self._value = FieldValue(number, scope)

    def bind(self, session: Session, handle: Handle) -> None:
        """Ask this handle from now on."""
        self._call = session.bind("nvmlDeviceGetFieldValues")
        self._arguments = (handle, ctypes.c_int(1), ctypes.byref(self._value))

    def ask(self) -> int:
        """Return the field's number.

        Raises:
            NvmlError: the call or the field answered with a code, or with something that is no number.
        """
        code = self._call(*self._arguments) or self._value.code
        if code:
            raise NvmlError(code)
        number = self._value.number()
        if number is None:
            raise NvmlError(NOT_SUPPORTED)
        return number


class EnergyField(_Field):
    """The energy counter of one scope (field 191), millijoules: a superchip's GPU without its Grace."""

    provenance = Provenance.MEASURED

    def __init__(self, device: str, scope: int = GPU_SCOPE) -> None:
        super().__init__(device, _FIELD_ENERGY, scope)

    def read(self, now_ns: int) -> Reading:
        """Return the counter."""
        return Reading(now_ns, self._device, self.ask() * UJ_PER_MJ)


class PowerField(_Field):
    """A power of one scope, milliwatts."""

    provenance = Provenance.SAMPLED

    def read(self, now_ns: int) -> Reading:
        """Return the power."""
        return Reading(now_ns, self._device, None, self.ask())


class PowerUsage:
    """``nvmlDeviceGetPowerUsage``, milliwatts: the mean of a second on Ampere and newer (GA100 excepted), else now."""

    provenance = Provenance.SAMPLED
    domain = GPU

    def __init__(self, device: str) -> None:
        self._device = device
        self._power_mw = ctypes.c_uint()

    def bind(self, session: Session, handle: Handle) -> None:
        """Ask this handle from now on."""
        self._call = session.bind("nvmlDeviceGetPowerUsage")
        self._arguments = (handle, ctypes.byref(self._power_mw))

    def read(self, now_ns: int) -> Reading:
        """Return the power."""
        code = self._call(*self._arguments)
        if code:
            raise NvmlError(code)
        return Reading(now_ns, self._device, None, self._power_mw.value)


def choose(session: Session, handle: Handle, device: str) -> Meter:
    """Return the best meter that this GPU offers, bound to its handle.

    Raises:
        NvmlError: it offers none, or cannot be asked at all.
    """
    last = NvmlError(NOT_SUPPORTED)
    is_superchip = bool(session.number("nvmlDeviceGetC2cModeInfoV", handle))
    for meter in _candidates(session, handle, device, is_superchip=is_superchip):
        meter.bind(session, handle)
        try:
            meter.read(0)
        except NvmlError as exc:
            if exc.code not in _NONE:
                raise
            last = exc
        else:
            return meter
    raise last


def _candidates(session: Session, handle: Handle, device: str, *, is_superchip: bool) -> list[Meter]:
    counter: Meter = _superchip_counter(session, handle, device) if is_superchip else TotalEnergy(device)
    meters: list[Meter] = [
        counter,
        PowerField(device, _FIELD_POWER_INSTANT, GPU_SCOPE),
        PowerField(device, _FIELD_POWER_AVERAGE, GPU_SCOPE),
        PowerUsage(device),
    ]
    if is_superchip:
        meters.append(PowerField(device, _FIELD_POWER_INSTANT, MODULE_SCOPE))
    return meters


def _superchip_counter(session: Session, handle: Handle, device: str) -> Meter:
    """Return the counter of a GPU that shares a module with a CPU: the GPU's own if it has one, else the module's."""
    total = TotalEnergy(device)
    total.bind(session, handle)
    own, module = session.fields(handle, (_FIELD_ENERGY, GPU_SCOPE), (_FIELD_ENERGY, MODULE_SCOPE))
    module_mj = module.number()
    try:
        total_mj = (total.read(0).counter_uj or 0) // UJ_PER_MJ
    except NvmlError:
        return total
    if module_mj is not None and total_mj < _OWN_RATIO * module_mj:
        return total
    own_mj = own.number()
    if module_mj is not None and own_mj is not None and own_mj < _OWN_RATIO * module_mj:
        return EnergyField(device)
    return TotalEnergy(device, MODULE)


def max_watts(session: Session, handle: Handle, domain: str) -> float | None:
    """Return the most that the device may be set to draw, None where that is not known."""
    if domain == MODULE:
        limit_mw = session.fields(handle, (188, MODULE_SCOPE))[0].number()
        return limit_mw / 1000 if limit_mw else None
    least, most = ctypes.c_uint(), ctypes.c_uint()
    call = session.bind("nvmlDeviceGetPowerManagementLimitConstraints")
    if call(handle, ctypes.byref(least), ctypes.byref(most)) == SUCCESS and most.value:
        return most.value / 1000
    limit_mw = session.number("nvmlDeviceGetEnforcedPowerLimit", handle)
    return limit_mw / 1000 if limit_mw else None
