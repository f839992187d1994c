"""Which devices the kubelet has given to which container: its pod-resources socket (KEP-606), asked on this node alone.

The messages are those of k8s.io/kubelet/pkg/apis/podresources/v1/api.proto at 95f08499 (30842ae2, its first version,
has the same names and numbers), as far as they are read here; protobuf passes over the rest. It needs the extra
`kubernetes` and the right to open the socket: no account at the API server, and no right over any other pod.

What a device is called is its plugin's choice. NVIDIA's says the UUID of a GPU or of a MIG instance, with `::NUMBER`
behind it where one GPU is given to several (k8s-device-plugin, "Shared Access to GPUs"). Devices by dynamic resource
allocation have names of their drivers' own, and are not read.
"""

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any

from inferwatt.errors import SourceRetry

LIST = "/v1.PodResourcesLister/List"
MAX_ANSWER_BYTES = 16 << 20
"""As the kubelet's own clients have it (podresources/client.go)."""
_AGAIN = "none needed: it is asked again"
_MEANINGS = {
    "OK": ("said nothing wrong, and gave no answer", _AGAIN),
    "CANCELLED": ("has cancelled the question", _AGAIN),
    "UNKNOWN": ("failed", "look at the kubelet's log: journalctl -u kubelet"),
    "INVALID_ARGUMENT": ("does not understand the question", "update inferwatt"),
    "DEADLINE_EXCEEDED": ("did not answer in time", _AGAIN),
    "NOT_FOUND": ("knows no such pod", _AGAIN),
    "ALREADY_EXISTS": ("failed", "look at the kubelet's log: journalctl -u kubelet"),
    "PERMISSION_DENIED": ("refuses", "run the agent as root, with the socket's folder mounted"),
    "RESOURCE_EXHAUSTED": ("is asked too often, or has too much to say", _AGAIN),
    "FAILED_PRECONDITION": ("cannot answer now", _AGAIN),
    "ABORTED": ("gave up", _AGAIN),
    "OUT_OF_RANGE": ("failed", "look at the kubelet's log: journalctl -u kubelet"),
    "UNIMPLEMENTED": ("is too old for this: it speaks no v1", "Kubernetes 1.20 or newer"),
    "INTERNAL": ("failed", "look at the kubelet's log: journalctl -u kubelet"),
    "UNAVAILABLE": ("does not answer", "look whether the kubelet runs: systemctl status kubelet"),
    "DATA_LOSS": ("failed", "look at the kubelet's log: journalctl -u kubelet"),
    "UNAUTHENTICATED": ("asks for an account", "run the agent as root, with the socket's folder mounted"),
}
"""What each status of gRPC means here, and what helps."""
_TEXT, _MESSAGE = 9, 11
_SHAPES: dict[str, tuple[tuple[str, int, bool, str], ...]] = {
    "ListPodResourcesRequest": (),
    "ListPodResourcesResponse": (("pod_resources", 1, True, "PodResources"),),
    "PodResources": (
        ("name", 1, False, ""),
        ("namespace", 2, False, ""),
        ("containers", 3, True, "ContainerResources"),
    ),
    "ContainerResources": (("name", 1, False, ""), ("devices", 2, True, "ContainerDevices")),
    "ContainerDevices": (("resource_name", 1, False, ""), ("device_ids", 2, True, "")),
}
"""Message -> (field, number, whether there are several, the message it is; empty: text)."""


@dataclass(frozen=True, slots=True)
class Holder:
    """A container, and the ids of the devices that the kubelet has given to it; `alone` are those of no other one."""

    namespace: str
    pod: str
    container: str
    ids: frozenset[str] = frozenset()
    alone: frozenset[str] = frozenset()


def holders(socket: str, timeout_seconds: float = 1.0) -> tuple[Holder, ...]:
    """Return each container of this node with its devices.

    Args:
        socket: the kubelet's.
        timeout_seconds: how long its answer may take.

    Raises:
        SourceRetry: there is no answer now; it says why.
    """
    if not os.path.exists(socket):
        fix = "mount its folder into the agent's container, if this is a node of Kubernetes"
        raise SourceRetry("there is no pod-resources socket", where=socket, fix=fix)
    try:
        import grpc
    except ImportError as exc:
        fix = "pip install 'inferwatt[kubernetes]'"
        raise SourceRetry("the kubelet cannot be asked: grpcio is missing", where=socket, fix=fix) from exc
    request, response = messages()["ListPodResourcesRequest"], messages()["ListPodResourcesResponse"]
    options = [("grpc.max_receive_message_length", MAX_ANSWER_BYTES), ("grpc.enable_http_proxy", 0)]
    with grpc.insecure_channel(f"unix:{socket}", options) as channel:
        call = channel.unary_unary(
            LIST, request_serializer=request.SerializeToString, response_deserializer=response.FromString
        )
        try:
            return held_by(call(request(), timeout=timeout_seconds).pod_resources)
        except grpc.RpcError as exc:
            code = exc.code()
            what, fix = _MEANINGS[code.name]
            raise SourceRetry(f"the kubelet {what} ({code.name})", where=socket, fix=fix) from exc


def held_by(pods: Iterable[Any]) -> tuple[Holder, ...]:
    """Return each container of an answer with its devices: ids without the number of a share."""
    found = [
        Holder(pod.namespace, pod.name, container.name, _ids(container.devices))
        for pod in pods
        for container in pod.containers
    ]
    count = Counter(name for holder in found for name in holder.ids)
    return tuple(
        Holder(h.namespace, h.pod, h.container, h.ids, frozenset(name for name in h.ids if count[name] == 1))
        for h in found
    )


def _ids(devices: Iterable[Any]) -> frozenset[str]:
    return frozenset(name.partition("::")[0] for each in devices for name in each.device_ids)


@cache
def messages() -> dict[str, Any]:
    """Return the classes of the messages by name, made once from their shapes.

    Raises:
        SourceRetry: protobuf is missing.
    """
    try:
        from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
    except ImportError as exc:
        fix = "pip install 'inferwatt[kubernetes]'"
        raise SourceRetry("the kubelet cannot be asked: protobuf is missing", where=LIST, fix=fix) from exc
    file = descriptor_pb2.FileDescriptorProto(name="inferwatt/podresources.proto", package="v1", syntax="proto3")
    for name, fields in _SHAPES.items():
        message = file.message_type.add(name=name)
        for field, number, is_several, of in fields:
            kind = {"type": _MESSAGE, "type_name": f".v1.{of}"} if of else {"type": _TEXT}
            message.field.add(name=field, number=number, label=3 if is_several else 1, **kind)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"v1.{name}")) for name in _SHAPES}
