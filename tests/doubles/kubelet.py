"""A stand-in for the kubelet's pod-resources socket: a real gRPC server that speaks the documented messages.

Its messages are made of the whole api.proto of k8s.io/kubelet/pkg/apis/podresources/v1 (at 95f08499), also of what is
not read of it, by protobuf's own classes; none of our shapes is used.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_FIELDS: dict[str, tuple[tuple[str, int, str], ...]] = {
    "ListPodResourcesRequest": (),
    "ListPodResourcesResponse": (("pod_resources", 1, "PodResources*"),),
    "PodResources": (("name", 1, "text"), ("namespace", 2, "text"), ("containers", 3, "ContainerResources*")),
    "ContainerResources": (
        ("name", 1, "text"),
        ("devices", 2, "ContainerDevices*"),
        ("cpu_ids", 3, "int64*"),
        ("memory", 4, "ContainerMemory*"),
        ("dynamic_resources", 5, "DynamicResource*"),
    ),
    "ContainerMemory": (("memory_type", 1, "text"), ("size", 2, "uint64"), ("topology", 3, "TopologyInfo")),
    "ContainerDevices": (("resource_name", 1, "text"), ("device_ids", 2, "text*"), ("topology", 3, "TopologyInfo")),
    "TopologyInfo": (("nodes", 1, "NUMANode*"),),
    "NUMANode": (("ID", 1, "int64"),),
    "DynamicResource": (
        ("claim_name", 2, "text"),
        ("claim_namespace", 3, "text"),
        ("claim_resources", 4, "ClaimResource*"),
    ),
    "ClaimResource": (
        ("cdi_devices", 1, "CDIDevice*"),
        ("driver_name", 2, "text"),
        ("pool_name", 3, "text"),
        ("device_name", 4, "text"),
    ),
    "CDIDevice": (("name", 1, "text"),),
}
_SCALARS = {"int64": 3, "uint64": 4, "text": 9}

Answer = Callable[[Any], Any]
"""What makes an answer, given the messages' classes; it may raise what gRPC then says."""


def classes() -> Any:
    """Return the messages' classes by name."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    file = descriptor_pb2.FileDescriptorProto(name="api.proto", package="v1", syntax="proto3")
    for name, fields in _FIELDS.items():
        message = file.message_type.add(name=name)
        for field, number, kind in fields:
            of = kind.rstrip("*")
            one = message.field.add(name=field, number=number, label=3 if kind.endswith("*") else 1)
            one.type = _SCALARS.get(of, 11)
            if one.type == 11:
                one.type_name = f".v1.{of}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"v1.{name}")) for name in _FIELDS}


def pods(*rows: tuple[str, str, str, Sequence[str]]) -> Answer:
    """Return an answer of (namespace, pod, container, device ids): NVIDIA's plugin, a NUMA node, CPUs, a claim."""

    def answer(made: Any) -> Any:
        response = made["ListPodResourcesResponse"]()
        for namespace, name, container, ids in rows:
            pod = response.pod_resources.add(name=name, namespace=namespace)
            held = pod.containers.add(name=container, cpu_ids=[0, 1])
            held.memory.add(memory_type="memory", size=1 << 30)
            device = held.devices.add(resource_name="nvidia.com/gpu", device_ids=ids)
            device.topology.nodes.add(ID=0)
            claim = held.dynamic_resources.add(claim_name="claim", claim_namespace=namespace)
            claim.claim_resources.add(driver_name="gpu.example.com", pool_name="node", device_name="gpu-0")
        return response

    return answer


@contextmanager
def kubelet(socket: Path, answer: Answer | None = None, *, status: str = "") -> Iterator[str]:
    """Serve at a Unix socket while the context lasts; `status` is what gRPC says instead of an answer."""
    import grpc

    made = classes()

    def listed(_request: Any, context: Any) -> Any:
        if status:
            context.abort(getattr(grpc.StatusCode, status), "as the test wants it")
        return (answer or pods())(made)

    handler = grpc.unary_unary_rpc_method_handler(
        listed,
        request_deserializer=made["ListPodResourcesRequest"].FromString,
        response_serializer=made["ListPodResourcesResponse"].SerializeToString,
    )
    with futures.ThreadPoolExecutor(1) as pool:
        server = grpc.server(pool)
        service = grpc.method_handlers_generic_handler(
            "v1.PodResourcesLister", {"List": handler} if answer or status else {}
        )
        server.add_generic_rpc_handlers((service,))
        server.add_insecure_port(f"unix:{socket}")
        server.start()
        try:
            yield str(socket)
        finally:
            server.stop(None).wait()
