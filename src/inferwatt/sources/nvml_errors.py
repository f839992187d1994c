"""What each return code of NVML means for a device, and what a user can do about it. Pure.

The codes are those of NVIDIA's nvml.h (nvmlReturn_t); the binding has the same as ``NVML_ERROR_...``, and a test asks
that none of them is missing here.
"""

from dataclasses import dataclass

from inferwatt.errors import SourceGone, SourceRetry

SUCCESS = 0
UNINITIALIZED = 1
INVALID_ARGUMENT = 2
NOT_SUPPORTED = 3
NO_PERMISSION = 4
NOT_FOUND = 6
INSUFFICIENT_SIZE = 7
DRIVER_NOT_LOADED = 9
LIBRARY_NOT_FOUND = 12
FUNCTION_NOT_FOUND = 13
GPU_IS_LOST = 15
VERSION_MISMATCH = 18

SEARCHED = "none needed: looked for every 10 s"
COUNTED = "none needed: counted as a lost sample"
_RESTART = "update the driver, then restart inferwatt"


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a code says, the one thing that helps (``{index}`` is the GPU's), and whether the device is gone by it."""

    what: str
    fix: str
    gone: bool = False


_TABLE = {
    UNINITIALIZED: Meaning("NVML was shut down by other code in this process", SEARCHED, gone=True),
    INVALID_ARGUMENT: Meaning("the driver does not know this GPU any more", SEARCHED, gone=True),
    NOT_SUPPORTED: Meaning("this GPU or driver does not report its energy or power", _RESTART, gone=True),
    NO_PERMISSION: Meaning(
        "no permission", "give the agent's user access to /dev/nvidia* (ls -l /dev/nvidia*)", gone=True
    ),
    5: Meaning("NVML was initialized twice", COUNTED),
    NOT_FOUND: Meaning("the driver does not find this GPU", SEARCHED, gone=True),
    INSUFFICIENT_SIZE: Meaning("the driver's answer was longer than expected", COUNTED),
    8: Meaning("the GPU's power cables are not attached", "attach the GPU's power cables", gone=True),
    DRIVER_NOT_LOADED: Meaning("NVIDIA's driver is not loaded", "sudo modprobe nvidia", gone=True),
    10: Meaning("the driver did not answer in time", COUNTED),
    11: Meaning("the driver has an interrupt issue with this GPU", "sudo dmesg | grep -i nvrm"),
    LIBRARY_NOT_FOUND: Meaning(
        "the driver's library libnvidia-ml.so.1 is missing",
        "install the driver; in a container: docker run --gpus all -e NVIDIA_DRIVER_CAPABILITIES=utility",
        gone=True,
    ),
    FUNCTION_NOT_FOUND: Meaning("the driver is too old for this call", _RESTART, gone=True),
    14: Meaning("the GPU's infoROM is corrupted", "nvidia-smi -q -i {index}  # then ask the vendor for a repair"),
    GPU_IS_LOST: Meaning(
        "the GPU has fallen off the bus", "sudo nvidia-smi --gpu-reset -i {index}  # or reboot", gone=True
    ),
    16: Meaning("the GPU must be reset", "sudo nvidia-smi --gpu-reset -i {index}", gone=True),
    17: Meaning(
        "the operating system blocks the GPU (cgroup)", "allow the devices /dev/nvidia* to this container", gone=True
    ),
    VERSION_MISMATCH: Meaning(
        "the driver's library and its kernel module are of different versions (updated without a reboot)",
        "sudo reboot",
        gone=True,
    ),
    19: Meaning("the GPU is in use by an operation that excludes others", COUNTED),
    20: Meaning("the driver has no memory left", COUNTED),
    21: Meaning("the driver has no data yet", COUNTED),
    22: Meaning("not available with ECC of a virtual GPU", COUNTED),
    23: Meaning("the driver has no resources left", COUNTED),
    24: Meaning("the frequency is not supported", COUNTED),
    25: Meaning("the driver and the binding disagree on a structure", "pip install --upgrade nvidia-ml-py"),
    26: Meaning("the driver does not answer this call any more", "pip install --upgrade inferwatt nvidia-ml-py"),
    27: Meaning("the GPU is not ready", COUNTED),
    28: Meaning("no GPU was found", SEARCHED, gone=True),
    29: Meaning("the GPU is in a state that does not allow this", COUNTED),
    30: Meaning("this kind of reset is not supported", COUNTED),
    999: Meaning("the driver reports an unknown error", COUNTED),
}


def meaning(code: int) -> Meaning:
    """Return what a code means; one that NVIDIA adds later is an error that may pass."""
    return _TABLE.get(code) or Meaning(f"the driver reports error {code}, which is not in our table", COUNTED)


def known() -> frozenset[int]:
    """Return every code that is in the table."""
    return frozenset(_TABLE)


def failure(code: int, device: str, index: int, where: str, *, lasting: bool = False) -> SourceRetry | SourceGone:
    """Return the error of a read that answered `code`; `lasting` is one that has failed for so long that it is gone."""
    means = meaning(code)
    what = f"cannot read {device}: {means.what}"
    fix = means.fix.format(index=index)
    if means.gone or lasting:
        return SourceGone(what, where=where, fix=SEARCHED if fix == COUNTED else fix)
    return SourceRetry(what, where=where, fix=fix)
