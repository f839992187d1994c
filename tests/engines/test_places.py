from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from inferwatt.engines.places import ASK_NS, Places
from inferwatt.engines.pod_resources import Holder
from inferwatt.engines.servers import KubernetesConfig
from inferwatt.errors import SourceRetry
from inferwatt.records import NOWHERE, Place
from inferwatt.testing import FakeClock

UID = "2c48913c-b29f-11e7-9350-020968147796"
CONTAINER = "9bca8d63d5fa610783847915bcff0ecac1273e5b4bed3f6fa1b07350e0135961"
OTHER = "b2a102854b4969b2ce98dc329c86b4fb2b06e4ad2cc8da9d8a7578c9cd2004a2"
ONE, TWO, SHARED = "GPU-0000aaaa-0000", "GPU-1111bbbb-1111", "GPU-2222cccc-2222"
NAMES = ("chat", "vllm-0", "server")


class Node:
    """A node of Kubernetes as the agent sees it: a /proc, the kubelet's logs, and what the kubelet answers."""

    def __init__(self, folder: Path) -> None:
        self.proc, self.logs = folder / "proc", folder / "log"
        self.holders: tuple[Holder, ...] = ()
        self.refusal: SourceRetry | None = None
        self.clock = FakeClock()
        self.asked = 0
        config = KubernetesConfig(pod_resources="/kubelet.sock", logs=str(self.logs))
        self.places = Places(config, self.proc, clock=self.clock, ask=self.ask)

    def ask(self, _socket: str, _timeout_seconds: float) -> tuple[Holder, ...]:
        """Answer as the kubelet would."""
        self.asked += 1
        if self.refusal is not None:
            raise self.refusal
        return self.holders

    def runs(
        self, pid: int, container: str = CONTAINER, uid: str = UID, environ: Mapping[str, str] | None = None
    ) -> int:
        """Let a process run in a container of a pod (cgroupfs, version 2)."""
        folder = self.proc / str(pid)
        folder.mkdir(parents=True)
        (folder / "cgroup").write_text(f"0::/kubepods/pod{uid}/{container}\n" if container else "0::/init.scope\n")
        (folder / "environ").write_text("\0".join(f"{k}={v}" for k, v in (environ or {}).items()))
        return pid

    def links(self, namespace: str, pod: str, container: str, container_id: str = CONTAINER) -> None:
        """Make the kubelet's link of a container's log."""
        (self.logs / "containers").mkdir(parents=True, exist_ok=True)
        (self.logs / "containers" / f"{pod}_{namespace}_{container}-{container_id}.log").touch()


@pytest.fixture
def node() -> Iterator[Node]:
    """A node with nothing on it."""
    with TemporaryDirectory() as folder:
        yield Node(Path(folder))


def holder(*ids: str, alone: tuple[str, ...] | None = None, names: tuple[str, str, str] = NAMES) -> Holder:
    """Return a container that holds these devices, alone unless that is said."""
    return Holder(*names, frozenset(ids), frozenset(ids if alone is None else alone))


def test_the_kubelet_s_logs_name_the_container_by_its_id(node: Node) -> None:
    """Names with dashes too, and another container's link is not taken for it."""
    node.links("chat", "vllm-0", "my-server")
    node.links("chat", "vllm-1", "my-server", OTHER)

    assert node.places.find({node.runs(7)}) == Place("chat", "vllm-0", "my-server")


def test_a_pod_s_folder_names_it_where_a_link_is_cut_short(node: Node) -> None:
    """By its UID; its container only where it has one."""
    (node.logs / "pods" / f"chat_vllm-0_{UID}" / "server").mkdir(parents=True)
    node.runs(7)
    assert node.places.find({7}) == Place(*NAMES)

    (node.logs / "pods" / f"chat_vllm-0_{UID}" / "sidecar").mkdir()
    assert node.places.find({7}) == Place("chat", "vllm-0", "")


def test_the_downward_api_names_it_where_the_logs_are_not_there(node: Node) -> None:
    """Three variables of the server itself; what is no name of Kubernetes is not taken, and the logs stand above."""
    told = {"INFERWATT_NAMESPACE": "chat", "INFERWATT_POD": "vllm-0", "INFERWATT_CONTAINER": "server"}
    assert node.places.find({node.runs(7, environ=told)}) == Place(*NAMES)
    assert node.places.find({node.runs(8, environ=told | {"INFERWATT_POD": "../etc"})}) == NOWHERE

    node.links("chat", "another", "server")
    assert node.places.find({7}).pod == "another"


def test_what_the_kubelet_gave_to_the_container_alone_is_its_own(node: Node) -> None:
    """A share of a GPU is not; of what is its own, only what the process may see."""
    node.links(*NAMES)
    node.holders = (holder(ONE, TWO, SHARED, alone=(ONE, TWO)),)

    assert node.places.find({node.runs(7)}) == Place(*NAMES, holds=(ONE, TWO))
    narrowed = node.runs(8, environ={"CUDA_VISIBLE_DEVICES": TWO[:12]})
    assert node.places.find({narrowed}) == Place(*NAMES, holds=(TWO,), sees=(TWO[:12],))


def test_the_gpus_that_a_process_was_given_name_its_container(node: Node) -> None:
    """Where no name is at hand: the one container that alone holds them all; of a shared GPU nobody can say."""
    node.holders = (holder(ONE, TWO), holder(SHARED, alone=(), names=("a", "b", "c")))

    assert node.places.find({node.runs(7, environ={"NVIDIA_VISIBLE_DEVICES": f"{ONE},{TWO}"})}).names == NAMES
    assert node.places.find({node.runs(8, environ={"NVIDIA_VISIBLE_DEVICES": SHARED})}) == Place(sees=(SHARED,))
    assert node.places.find({node.runs(9, environ={"NVIDIA_VISIBLE_DEVICES": "all"})}) == NOWHERE


def test_processes_in_two_containers_are_in_no_pod(node: Node) -> None:
    """A server whose processes are in several is not named by any of them, and it is said."""
    node.links(*NAMES)
    found = node.places.look({node.runs(7), node.runs(8, OTHER)})

    assert found.place == NOWHERE
    assert found.unnamed is not None
    assert "several containers" in found.unnamed.what


def test_outside_of_kubernetes_nobody_is_asked(node: Node) -> None:
    """No container, or Docker's alone: no names, no lack, and the kubelet is not asked; what it may see is known."""
    bare = node.runs(7, "", environ={"CUDA_VISIBLE_DEVICES": "1", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"})
    docker = node.runs(8)
    (node.proc / "8" / "cgroup").write_text(f"0::/system.slice/docker-{CONTAINER}.scope\n")

    assert node.places.look({bare}).place == Place(sees=("pci-bus-order:1",))
    assert (node.places.look({docker}).place, node.places.look({docker}).unnamed) == (NOWHERE, None)
    assert node.asked == 0


def test_the_kubelet_is_asked_now_and_then_and_its_refusal_is_the_lack(node: Node) -> None:
    """Once in ten seconds, however many servers there are; what it said before is forgotten when it refuses."""
    node.links(*NAMES)
    node.holders = (holder(ONE),)
    pid, stranger = node.runs(7), node.runs(8, OTHER, UID.replace("2c", "3d"))
    assert [node.places.find({pid}).holds for _ in range(3)] == [(ONE,)] * 3
    assert node.asked == 1

    node.clock.advance(ASK_NS)
    node.refusal = SourceRetry("the kubelet refuses", where="/kubelet.sock", fix="as root")
    assert node.places.find({pid}) == Place(*NAMES)
    unnamed = node.places.look({stranger}).unnamed
    assert unnamed is not None
    assert (unnamed.what, unnamed.fix) == ("the kubelet refuses", "as root")


def test_what_cannot_be_mapped_is_said(node: Node) -> None:
    """Numbers of a container's own are not guessed by order; where the kubelet says which, they do not matter."""
    node.links(*NAMES)
    pid = node.runs(7, environ={"CUDA_VISIBLE_DEVICES": "0"})
    unmapped = node.places.look({pid}).unmapped
    assert unmapped is not None
    assert "CUDA_VISIBLE_DEVICES" in unmapped.what

    node.holders = (holder(ONE),)
    node.clock.advance(ASK_NS)
    assert node.places.look({pid}).unmapped is None


def test_it_can_be_switched_off(node: Node) -> None:
    """Then no pod is named, and what a process may see still counts."""
    node.links(*NAMES)
    places = Places(KubernetesConfig(enabled=False, logs=str(node.logs)), node.proc, ask=node.ask)

    assert places.find({node.runs(7, environ={"CUDA_VISIBLE_DEVICES": ONE})}) == Place(sees=(ONE,))
    assert node.asked == 0
