"""Which instance of which cloud this machine is: by what its firmware says of itself, else by the cloud's own answer.

The firmware's words (DMI, ``/sys/class/dmi/id``) cost nothing, and are tried first. On Amazon EC2 they name the type
of the instance. Elsewhere the cloud's metadata service is asked, at an address that never leaves the host: only where
DMI names a cloud that has one, or where there is no DMI and CPUID says that this is a virtual machine. All of it
together takes at most 100 ms, once in the life of a process (the answer is kept, also where there is none), and none
of it happens with `sources.cloud_metadata = false`. What comes back is a name, checked as such, or nothing.

Signs: cloud-init, tools/ds-identify; for Amazon "Detect whether a host is an EC2 instance" (EC2 User Guide). Questions:
"Use IMDSv2" (EC2 User Guide); "Instance properties" (Compute Engine); "Azure Instance Metadata Service"; "Getting
Instance Metadata" (Oracle Cloud Infrastructure).
"""

import re
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from urllib.parse import urlsplit

ADDRESS = "http://169.254.169.254"
"""Link-local (RFC 3927): no router passes it on."""
TIMEOUT_SECONDS = 0.1
"""For everything that is asked, together."""
_MOST_BYTES = 8192
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")
_EC2_TYPE = re.compile(r"[a-z][a-z0-9-]*\.[a-z0-9-]+")
EC2, GCE, AZURE, ORACLE = "Amazon EC2", "Google Cloud", "Microsoft Azure", "Oracle Cloud"


@dataclass(frozen=True, slots=True)
class Instance:
    """A machine of a cloud; empty words are not known."""

    cloud: str = ""
    type: str = ""

    @property
    def name(self) -> str:
        """Return both in one line, as an operator would say it."""
        return f"{self.cloud} {self.type}".strip()


@dataclass(frozen=True, slots=True)
class Question:
    """One request to a metadata service; ``{token}`` stands for the answer to the one before."""

    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)


SIGNS = (
    (EC2, "sys_vendor", "Amazon EC2"),
    (GCE, "product_name", "Google Compute Engine"),
    (AZURE, "chassis_asset_tag", "7783-7084-3265-9085-8269-3286-77"),
    (ORACLE, "chassis_asset_tag", "OracleCloud.com"),
    ("Alibaba Cloud", "product_name", "Alibaba Cloud ECS"),
    ("DigitalOcean", "sys_vendor", "DigitalOcean"),
    ("Hetzner", "sys_vendor", "Hetzner"),
    ("Scaleway", "sys_vendor", "Scaleway"),
    ("Vultr", "sys_vendor", "Vultr"),
    ("OpenStack", "product_name", "OpenStack Nova"),
    ("OpenStack", "product_name", "OpenStack Compute"),
    ("Hyper-V", "product_name", "Virtual Machine"),
    ("KVM", "sys_vendor", "QEMU"),
    ("VMware", "sys_vendor", "VMware, Inc."),
    ("VirtualBox", "sys_vendor", "innotek GmbH"),
    ("Xen", "sys_vendor", "Xen"),
)
"""Cloud or hypervisor, the file of DMI, and what it says; the first that fits."""

SERVICES = {
    EC2: (
        Question("PUT", "/latest/api/token", {"X-aws-ec2-metadata-token-ttl-seconds": "60"}),
        Question("GET", "/latest/meta-data/instance-type", {"X-aws-ec2-metadata-token": "{token}"}),
    ),
    GCE: (Question("GET", "/computeMetadata/v1/instance/machine-type", {"Metadata-Flavor": "Google"}),),
    AZURE: (
        Question("GET", "/metadata/instance/compute/vmSize?api-version=2021-02-01&format=text", {"Metadata": "true"}),
    ),
    ORACLE: (Question("GET", "/opc/v2/instance/shape", {"Authorization": "Bearer Oracle"}),),
}


@lru_cache(maxsize=16)
def recognise(
    sysfs_root: str, *, is_guest: bool, may_ask: bool, address: str = ADDRESS, timeout_seconds: float = TIMEOUT_SECONDS
) -> Instance:
    """Return which instance this is; the second time what was found the first time, without a look.

    Args:
        sysfs_root: where sysfs is.
        is_guest: whether CPUID says that a hypervisor is below.
        may_ask: whether the metadata service may be asked.
        address: where it is; for tests.
        timeout_seconds: the longest that it may take to ask.
    """
    dmi = Path(sysfs_root) / "class" / "dmi" / "id"
    instance = by_dmi(dmi)
    if instance.type or not may_ask:
        return instance
    if instance.cloud in SERVICES:
        asked: tuple[str, ...] = (instance.cloud,)
    else:
        asked = tuple(SERVICES) if is_guest and not dmi.exists() else ()
    deadline = time.monotonic() + timeout_seconds
    for cloud in asked:
        try:
            kind = ask(cloud, address, deadline)
        except OSError:  # nobody there, or too late: so is every further question
            break
        if kind:
            return Instance(cloud, kind)
    return instance


def by_dmi(folder: Path) -> Instance:
    """Return what the firmware says of itself."""
    for cloud, name, text in SIGNS:
        if _text(folder / name) == text:
            product = _text(folder / "product_name") if cloud == EC2 else ""
            return Instance(cloud, product if _EC2_TYPE.fullmatch(product) else "")
    return Instance()


def ask(cloud: str, address: str, deadline: float) -> str:
    """Return the type of the instance as the cloud's metadata service says it, empty where it says something else.

    Raises:
        OSError: nobody answers, or not before `deadline` (of `time.monotonic`).
    """
    answer = ""
    for question in SERVICES[cloud]:
        answer = _answer(question, answer, address, deadline)
        if not answer:
            return ""
    kind = answer.strip('"').rpartition("/")[2]  # Google's is projects/NUMBER/machineTypes/TYPE
    return kind if _NAME.fullmatch(kind) else ""


def _answer(question: Question, token: str, address: str, deadline: float) -> str:
    """Ask one question; empty where the answer is not a plain 200 with one line of text."""
    where = urlsplit(address)
    host, port = where.hostname or "", where.port or 80
    headers = {"Host": host, "Connection": "close", **question.headers}
    if question.method == "PUT":
        headers["Content-Length"] = "0"
    lines = [f"{question.method} {question.path} HTTP/1.1"]
    lines += (f"{key}: {value.replace('{token}', token)}" for key, value in headers.items())
    with socket.create_connection((host, port), _left(deadline)) as connection:
        connection.settimeout(_left(deadline))
        connection.sendall("\r\n".join((*lines, "", "")).encode("ascii"))
        head, body = _received(connection, deadline)
    text = body.decode("ascii", "replace").strip()
    is_plain = head.startswith(b"HTTP/1.") and head[8:13] == b" 200 " and text.isprintable() and text.isascii()
    return text if is_plain else ""


def _received(connection: socket.socket, deadline: float) -> tuple[bytes, bytes]:
    """Read one answer to its end, which is its stated length or the end of the connection."""
    data = b""
    while len(data) < _MOST_BYTES:
        head, blank, body = data.partition(b"\r\n\r\n")
        length = re.search(rb"\r\ncontent-length:[ \t]*(\d{1,6})", head, re.IGNORECASE) if blank else None
        if length is not None and len(body) >= int(length[1]):
            return head, body[: int(length[1])]
        connection.settimeout(_left(deadline))
        more = connection.recv(_MOST_BYTES)
        if not more:
            return head, body
        data += more
    return b"", b""


def _left(deadline: float) -> float:
    """Return the seconds that are left; TimeoutError, an OSError, where there are none."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("no time is left")
    return left


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
