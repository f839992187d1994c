"""What AMD's library means by its codes (``amdsmi_status_t``, amdsmi.h 24.6 to 26.0), and what helps. Pure."""

from dataclasses import dataclass
from enum import Enum, auto

NONE_NEEDED = "none needed: counted as a lost sample"
GROUPS = 'sudo usermod -aG render,video "$USER"  # then log in again'
LOAD = "sudo modprobe amdgpu"
ASK = "amd-smi list  # says what AMD's own tool sees"
REINSTALL = "pip install --force-reinstall /opt/rocm/share/amd_smi  # the package of the installed ROCm"


class Handling(Enum):
    """What a code means for a read."""

    RETRY = auto()  # the next read may work
    GONE = auto()  # the device is not there any more
    UNSUPPORTED = auto()  # this device never tells it


@dataclass(frozen=True, slots=True)
class Status:
    """What one code means, and the command that helps."""

    words: str
    handling: Handling = Handling.RETRY
    fix: str = ASK


_UNSUPPORTED, _GONE = Handling.UNSUPPORTED, Handling.GONE

STATUS: dict[int, Status] = {
    1: Status("invalid parameter", fix=REINSTALL),
    2: Status("not supported", _UNSUPPORTED),
    3: Status("not implemented yet", _UNSUPPORTED),
    4: Status("a library could not be loaded", fix=REINSTALL),
    5: Status("a symbol could not be loaded", _UNSUPPORTED, REINSTALL),
    6: Status("libdrm failed (are you in the groups of /dev/dri/renderD*?)", fix=GROUPS),
    7: Status("the call failed"),
    8: Status("the driver did not answer in time"),
    9: Status("the driver asks to try again"),
    10: Status("no permission", fix=GROUPS),
    11: Status("interrupted"),
    12: Status("input or output error"),
    13: Status("bad address", fix=REINSTALL),
    14: Status("a file of the driver cannot be read"),
    15: Status("out of memory or handles"),
    16: Status("an exception inside the library", fix=REINSTALL),
    17: Status("out of bounds", fix=REINSTALL),
    18: Status("the library could not set itself up", fix=LOAD),
    19: Status("too many users of the library"),
    20: Status("a folder of the driver is missing", fix=LOAD),
    30: Status("the device is busy"),
    31: Status("the device is not there", _GONE),
    32: Status("the library was shut down", _GONE),
    33: Status("no free slot"),
    34: Status("the driver is not loaded", _GONE, LOAD),
    39: Status("there is more data than was asked for"),
    40: Status("no data"),
    41: Status("too little room for the answer", fix=REINSTALL),
    42: Status("an answer of unexpected size", fix=REINSTALL),
    43: Status("an answer of unexpected content", fix=REINSTALL),
    44: Status("not an AMD processor", _UNSUPPORTED),
    45: Status("no energy driver", _UNSUPPORTED),
    46: Status("no MSR driver", _UNSUPPORTED),
    47: Status("no HSMP driver", _UNSUPPORTED),
    48: Status("HSMP is not supported", _UNSUPPORTED),
    49: Status("this HSMP message is not supported", _UNSUPPORTED),
    50: Status("HSMP did not answer in time"),
    51: Status("no energy and no HSMP driver", _UNSUPPORTED),
    52: Status("a file is missing", fix=LOAD),
    53: Status("an argument is missing", fix=REINSTALL),
    54: Status("the driver could not be restarted", _GONE, "sudo dmesg | grep -i amdgpu"),
    55: Status("this setting is not available", _UNSUPPORTED),
    56: Status("the EEPROM is corrupted"),
    57: Status("there is more data than was asked for"),  # amdsmi 6.4; 39 since 7.0
    0xFFFFFFFE: Status("a code that the library itself does not know"),
    0xFFFFFFFF: Status("an unknown error"),
}


def status(code: int) -> Status:
    """Return what a code means; one of a later library may work next time."""
    return STATUS.get(code) or Status(f"code {code}, which is newer than inferwatt")
