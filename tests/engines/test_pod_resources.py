import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from inferwatt.engines import pod_resources
from inferwatt.engines.pod_resources import Holder, holders
from inferwatt.errors import SourceRetry

grpc = pytest.importorskip("grpc")
pytest.importorskip("google.protobuf")

from tests.doubles.kubelet import kubelet, pods  # noqa: E402 - what it needs may be missing

ONE, TWO = "GPU-0000aaaa", "GPU-1111bbbb"


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short name: the path of a Unix socket has 108 bytes."""
    with TemporaryDirectory(prefix="iw-") as name:
        yield Path(name)


def test_the_kubelet_says_which_container_has_which_gpu(folder: Path) -> None:
    """By the real gRPC client, from the documented messages; what is not read of them is passed over."""
    answer = pods(("chat", "vllm-0", "server", [ONE, TWO]), ("kube-system", "dns", "dns", []))
    with kubelet(folder / "kubelet.sock", answer) as path:
        found = holders(path, 5.0)

    gpus = frozenset({ONE, TWO})
    assert found == (Holder("chat", "vllm-0", "server", gpus, gpus), Holder("kube-system", "dns", "dns"))


def test_a_gpu_that_several_have_is_nobody_s_alone(folder: Path) -> None:
    """Shares of one GPU have its UUID with a number behind it: each holds it, none alone."""
    answer = pods(("a", "p", "c", [f"{ONE}::0", TWO]), ("b", "q", "d", [f"{ONE}::1"]))
    with kubelet(folder / "kubelet.sock", answer) as path:
        first, second = holders(path, 5.0)

    assert (first.ids, first.alone) == (frozenset({ONE, TWO}), frozenset({TWO}))
    assert (second.ids, second.alone) == (frozenset({ONE}), frozenset())


def test_every_status_of_grpc_has_a_meaning() -> None:
    """None is left to be told as it comes."""
    assert {code.name for code in grpc.StatusCode} == pod_resources._MEANINGS.keys()


@pytest.mark.parametrize("status", ["PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "UNIMPLEMENTED"])
def test_a_refusal_is_said_with_what_helps(folder: Path, status: str) -> None:
    """A real server's refusal, by its status: what, where, and what to do."""
    with kubelet(folder / "kubelet.sock", status=status) as path, pytest.raises(SourceRetry, match=status) as told:
        holders(path, 5.0)

    assert told.value.where == path
    assert told.value.fix


def test_a_socket_that_is_not_there_or_dead_or_silent_is_no_wait(folder: Path) -> None:
    """No socket, one that nobody listens on, and one that never answers: three reasons, within the time given."""
    with pytest.raises(SourceRetry, match="there is no pod-resources socket"):
        holders(str(folder / "none.sock"), 5.0)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(folder / "dead.sock"))
    with pytest.raises(SourceRetry, match="UNAVAILABLE"):
        holders(str(folder / "dead.sock"), 5.0)
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(folder / "silent.sock"))
        silent.listen()
        with pytest.raises(SourceRetry, match="DEADLINE_EXCEEDED"):
            holders(str(folder / "silent.sock"), 0.2)


def test_without_its_extra_it_says_which(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where grpcio is not installed the remedy is the one command that installs it."""
    (folder / "kubelet.sock").touch()
    monkeypatch.setitem(sys.modules, "grpc", None)
    with pytest.raises(SourceRetry, match="grpcio is missing") as told:
        holders(str(folder / "kubelet.sock"), 1.0)

    assert told.value.fix == "pip install 'inferwatt[kubernetes]'"
