"""The thin edge over NVIDIA's binding (nvidia-ml-py): NVML opened once for this process, and functions bound once.

``nvmlInit`` and ``nvmlShutdown`` are the whole process's, and a handle dies with a shutdown. So all GPUs share one
`Session`: the first opens it, the last closes it, and a GPU that came back is made visible by `restart`, which gives
every other GPU its new handle in the same breath.

Functions are bound without argument types and called with prepared ctypes objects: 0.18 µs instead of 0.38 µs by the
binding's own function (measured on a stand-in without driver cost). The binding loads the library, and has its
structures, constants and errors.
"""

import contextlib
import ctypes
import importlib
import threading
from collections.abc import Callable
from typing import Any, Protocol

from inferwatt.sources.nvml_errors import FUNCTION_NOT_FOUND, SUCCESS

Call = Callable[..., int]
"""A function of NVML: takes ctypes objects, returns a code."""
Handle = ctypes.c_void_p
GPU_SCOPE, MODULE_SCOPE = 0, 1
_TEXT_BYTES = 96
_PROBED_GAPS = 64
"""How many indices are asked for a GPU at most; NVML counts every GPU, lost or not."""


class NvmlError(Exception):
    """A call of NVML failed; the code says how."""

    def __init__(self, code: int) -> None:
        super().__init__(f"NVML error {code}")
        self.code = code


class NoBinding(Exception):
    """The binding cannot be imported, or another package took its name; the text says which."""


class User(Protocol):
    """What holds a handle: a GPU that is read."""

    busy: bool
    index: int

    def rebind(self) -> None:
        """Take a new handle: NVML was initialized anew."""
        ...


class FieldValue(ctypes.Structure):
    """nvmlFieldValue_t: one field, its scope, its answer, and a return code of its own."""

    _fields_ = (
        ("field", ctypes.c_uint32),
        ("scope", ctypes.c_uint32),
        ("time_us", ctypes.c_int64),
        ("latency_us", ctypes.c_int64),
        ("type", ctypes.c_uint32),
        ("code", ctypes.c_int32),
        ("raw", ctypes.c_uint64),
    )

    def number(self) -> int | None:
        """Return an unsigned answer (nvmlValueType_t 1, 2, 3), None for a code or a type that is not one."""
        if self.code != SUCCESS or self.type not in (1, 2, 3):
            return None
        return int(self.raw) & 0xFFFF_FFFF if self.type == 1 else int(self.raw)


class Session:
    """NVML in this process. Thread-safe: sources are found and closed by other threads than the one that reads."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._users: list[User] = []
        self._holds = 0
        self._binding: Any = None
        self.names: dict[str, str] = {}
        """UUID to device: a GPU keeps its name when its index moves."""
        self.searches = 0
        """How often in a row a known GPU was looked for in vain."""

    @property
    def binding(self) -> Any:  # noqa: ANN401 - the binding is untyped
        """Return the binding's module."""
        return self._binding

    def open(self) -> None:
        """Hold NVML open; the first call initializes it.

        Raises:
            NoBinding: nvidia-ml-py is not installed, or is not NVIDIA's.
            NvmlError: the driver refuses.
        """
        with self._lock:
            if not self._holds:
                self._binding = _load_binding()
                self._init()
            self._holds += 1

    def close(self) -> None:
        """Let go; the last call shuts NVML down."""
        with self._lock:
            self._holds -= 1
            if not self._holds:
                self._shutdown()

    def join(self, user: User) -> None:
        """Hold NVML open for a GPU that is read, and remember to give it a new handle after a restart."""
        with self._lock:
            self._holds += 1
            self._users.append(user)

    def leave(self, user: User) -> None:
        """Forget a GPU, and let go."""
        with self._lock:
            self._users.remove(user)
            self.close()

    def in_flight(self) -> set[int]:
        """Return the indices of the GPUs whose call has not come back: another call would hang as well."""
        with self._lock:
            return {user.index for user in self._users if user.busy}

    def restart(self) -> bool:
        """Initialize NVML anew, so that it sees a GPU that came back; False where a call is in flight and forbids it.

        A restart that fails leaves NVML uninitialized: each GPU then says so at its next read, and is looked for.
        """
        with self._lock:
            if any(user.busy for user in self._users):
                return False
            self._shutdown()
            try:
                self._init()
            except NvmlError:
                return False
            for user in self._users:
                user.rebind()
            return True

    def _init(self) -> None:
        try:
            self._binding.nvmlInit()
        except self._binding.NVMLError as exc:
            raise NvmlError(exc.value) from exc

    def _shutdown(self) -> None:
        with contextlib.suppress(self._binding.NVMLError):  # other code of this process may have shut it down
            self._binding.nvmlShutdown()

    def bind(self, name: str) -> Call:
        """Return a function of the library; one that it does not have answers that it has none."""
        try:
            function: Call = self._binding.nvmlLib[name]
        except AttributeError:
            return _absent
        return function

    def text(self, name: str, *before: object) -> str:
        """Return what a function writes into a buffer, empty where it fails."""
        buffer = ctypes.create_string_buffer(_TEXT_BYTES)
        code = self.bind(name)(*before, buffer, ctypes.c_uint(_TEXT_BYTES))
        return buffer.value.decode("utf-8", "replace") if code == SUCCESS else ""

    def number(self, name: str, handle: Handle, *before: object) -> int | None:
        """Return what a function writes into an unsigned int, None where it fails."""
        value = ctypes.c_uint()
        code = self.bind(name)(handle, *before, ctypes.byref(value))
        return value.value if code == SUCCESS else None

    def count(self) -> int:
        """Return how many GPUs there are.

        Raises:
            NvmlError: the driver refuses.
        """
        value = ctypes.c_uint()
        code = self.bind("nvmlDeviceGetCount_v2")(ctypes.byref(value))
        if code != SUCCESS:
            raise NvmlError(code)
        return min(value.value, _PROBED_GAPS)

    def handle(self, index: int) -> Handle:
        """Return the handle of the GPU with this index.

        Raises:
            NvmlError: it is lost, or not to be used by us.
        """
        handle = Handle()
        code = self.bind("nvmlDeviceGetHandleByIndex_v2")(ctypes.c_uint(index), ctypes.byref(handle))
        if code != SUCCESS:
            raise NvmlError(code)
        return handle

    def handle_of(self, uuid: str) -> Handle:
        """Return the handle of the GPU with this UUID; a null one, at which every call fails, where there is none."""
        handle = Handle()
        code = self.bind("nvmlDeviceGetHandleByUUID")(ctypes.c_char_p(uuid.encode()), ctypes.byref(handle))
        return handle if code == SUCCESS else Handle()

    def fields(self, handle: Handle, *asked: tuple[int, int]) -> list[FieldValue]:
        """Return the answers to fields, each (number, scope) with a code of its own."""
        answers = (FieldValue * len(asked))(*(FieldValue(field, scope) for field, scope in asked))
        self.bind("nvmlDeviceGetFieldValues")(handle, ctypes.c_int(len(asked)), answers)
        return list(answers)  # of a call that failed they are as they were, and have no type of number


SESSION = Session()
"""The one of this process."""


def _absent(*_: object) -> int:
    return FUNCTION_NOT_FOUND


def _load_binding() -> Any:  # noqa: ANN401 - the binding is untyped
    try:
        binding = importlib.import_module("pynvml")
    except ImportError as exc:
        raise NoBinding("NVIDIA's Python binding (nvidia-ml-py) is not installed") from exc
    if not hasattr(binding, "_nvmlGetFunctionPointer"):
        raise NoBinding("another package called pynvml hides NVIDIA's binding (nvidia-ml-py)")
    return binding
