"""Servers by the annotations of pods: a stand-in of the kubelet's list, and pods that answer by real sockets."""

import json
import ssl
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from inferwatt.clock import SystemClock
from inferwatt.engines import discover
from inferwatt.engines.discover import discover_all
from inferwatt.engines.pods import annotated, listed, servers
from inferwatt.engines.scrape import EngineSeen, Scraper
from inferwatt.engines.servers import EnginesConfig, KubernetesConfig, Target, server_kinds
from inferwatt.errors import SourceRetry
from inferwatt.records import Place
from tests.engines.servers import http, raw_server
from tests.real.conftest import missing

PAGES = Path(__file__).parent / "pages"
USUAL = {"prometheus.io/scrape": "true", "prometheus.io/port": "8000"}


def pod(name: str, annotations: Mapping[str, str], address: str = "10.244.0.7", phase: str = "Running") -> Any:
    """Return a pod as the kubelet lists it (core/v1, Pod)."""
    metadata = {"name": name, "namespace": "llm", "uid": "u", "annotations": dict(annotations)}
    return {"metadata": metadata, "spec": {"containers": []}, "status": {"phase": phase, "podIP": address}}


def body(*pods: Any) -> bytes:
    """Return a list of pods."""
    return json.dumps({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": list(pods)}).encode()


@pytest.mark.parametrize(
    ("annotations", "address", "path"),
    [
        (USUAL, "http://10.244.0.7:8000", "/metrics"),
        ({**USUAL, "prometheus.io/path": "prometheus/metrics"}, "http://10.244.0.7:8000", "/prometheus/metrics"),
        ({"prometheus.kserve.io/port": "8080", "prometheus.kserve.io/path": "/m"}, "http://10.244.0.7:8080", "/m"),
        ({**USUAL, "prometheus.kserve.io/port": "8080"}, "http://10.244.0.7:8080", "/metrics"),
    ],
)
def test_an_annotation_says_where_a_page_is(annotations: dict[str, str], address: str, path: str) -> None:
    """The usual ones, and KServe's, which stand over them."""
    (one,) = annotated(body(pod("chat-0", annotations)))

    assert (one.namespace, one.pod, one.address, one.path) == ("llm", "chat-0", address, path)


@pytest.mark.parametrize(
    "one",
    [
        pod("a", {}),
        pod("b", {"prometheus.io/port": "8000"}),
        pod("c", {**USUAL, "prometheus.io/scrape": "false"}),
        pod("d", {**USUAL, "prometheus.io/port": "http"}),
        pod("e", {**USUAL, "prometheus.io/port": "70000"}),
        pod("f", USUAL, phase="Pending"),
        pod("g", USUAL, address=""),
        pod("h", USUAL, address="evil.example/"),
        {"metadata": {"name": "i"}},
    ],
)
def test_who_is_not_annotated_or_not_there_is_left_out(one: Any) -> None:
    """No annotation, no port, no address of its own: it is not asked."""
    assert annotated(body(one)) == ()


def test_an_ipv6_pod_is_written_as_an_address() -> None:
    """In brackets."""
    assert annotated(body(pod("six", USUAL, "fd00::9")))[0].address == "http://[fd00::9]:8000"


@pytest.mark.parametrize(
    ("page", "kind"),
    [
        ("vllm_0.32", "vllm"),
        ("sglang", "sglang"),
        ("tgi", "tgi"),
        ("trtllm", "trtllm"),
        ("llamacpp", "llamacpp"),
        ("", ""),
    ],
)
def test_a_page_is_believed_by_its_metrics(page: str, kind: str) -> None:
    """Of whatever kind it is, at whatever path; another program's page is none of ours."""
    text = (PAGES / f"{page}.txt").read_bytes() if page else b"# TYPE node_load1 gauge\nnode_load1 0.5\n"
    with raw_server(http(text)) as server:
        port = server.url.rpartition(":")[2]
        annotations = {**USUAL, "prometheus.io/port": port, "prometheus.io/path": "/m"}
        found = list(servers(annotated(body(pod("chat-0", annotations, "127.0.0.1"))), server_kinds(), 5.0))

    assert [(one.kind, one.metrics_path, one.place) for one in found] == (
        [(kind, "/m", Place("llm", "chat-0"))] if kind else []
    )


def test_a_pod_is_found_by_its_annotation_and_has_its_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """From the kubelet's list to the record: namespace and pod stand on it though no process names them."""
    monkeypatch.setattr(discover, "entry_points", lambda **_: ())
    monkeypatch.setattr(discover, "PROBE_TIMEOUT_SECONDS", 20.0)
    with raw_server(http((PAGES / "vllm_0.32.txt").read_bytes())) as server:
        port = server.url.rpartition(":")[2]
        with raw_server(http(body(pod("chat-0", {**USUAL, "prometheus.io/port": port}, "127.0.0.1")))) as kubelet:
            kubernetes = KubernetesConfig(pods_url=f"{kubelet.url}/pods", timeout_seconds=20.0)
            config = EnginesConfig(timeout_seconds=20.0, kubernetes=kubernetes)
            (target,) = discover_all(config).engines
            question = kubelet.questions[0]
        seen: list[Any] = []
        scraper = Scraper(
            [target], SystemClock(), seen.append, config, find_place=lambda _pids: Place(holds=("GPU-1",))
        )
        scraper.step(1)
        scraper.stop()

    assert (target.name, target.why) == (f"vllm:127.0.0.1:{port}", "annotations of pod llm/chat-0, and its own word")
    assert [one.place for one in seen if isinstance(one, EngineSeen)] == [Place("llm", "chat-0", holds=("GPU-1",))]
    assert question.startswith(b"GET /pods HTTP/1.1")
    assert b"Authorization" not in question, "a token is not sent in plain text"


@pytest.mark.parametrize(
    ("answer", "what"),
    [
        (http(b"", status="401 Unauthorized"), "does not list its pods: it answers 401"),
        (http(b"Forbidden", status="403 Forbidden"), "does not list its pods: it answers 403"),
        (http(b'{"items": 5}'), "list of pods cannot be read"),
        (http(b"<html>"), "list of pods cannot be read"),
    ],
)
def test_a_kubelet_that_refuses_is_a_lack(answer: bytes, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the right that is missing; what else is found is found all the same."""
    monkeypatch.setattr(discover, "entry_points", lambda **_: ())
    with raw_server(answer) as kubelet:
        config = EnginesConfig(kubernetes=KubernetesConfig(pods_url=kubelet.url, timeout_seconds=5.0))
        found = discover_all(config)

    (lack,) = found.lacks
    assert what in lack.what
    assert (lack.where, "nodes/proxy" in lack.fix) == (kubelet.url, True)


def test_nothing_is_asked_unless_it_is_configured() -> None:
    """No address, no question; one that is none is said."""
    assert listed(KubernetesConfig()) == ()
    with pytest.raises(SourceRetry, match="it is no address"):
        listed(KubernetesConfig(pods_url="kubelet"))


class _Kubelet(BaseHTTPRequestHandler):
    """Lists one pod to whoever has the token."""

    def do_GET(self) -> None:
        allowed = self.headers["Authorization"] == "Bearer t-1"
        text = body(pod("chat-0", USUAL)) if allowed else b"Unauthorized"
        self.send_response(200 if allowed else 401)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_args: object) -> None:
        """Say nothing."""


@contextmanager
def secured_kubelet(folder: Path) -> Iterator[tuple[str, Path]]:
    """Serve the list over TLS by a certificate that it signed itself, as kubelets do; (address, certificate)."""
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    made = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=node -addext subjectAltName=DNS:node"
    try:
        command = ["openssl", *made.split(), "-keyout", str(key), "-out", str(certificate)]
        subprocess.run(command, check=True, capture_output=True)
    except FileNotFoundError:
        missing("openssl is not installed")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = HTTPServer(("127.0.0.1", 0), _Kubelet)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"https://127.0.0.1:{server.server_address[1]}/pods", certificate
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.real
def test_a_secured_kubelet_gets_the_token(tmp_path: Path) -> None:
    """On loopback by a certificate of its own; where an authority is named, only by one that is the node's."""
    token = tmp_path / "token"
    token.write_text("t-1\n")
    with secured_kubelet(tmp_path) as (url, certificate):
        known = KubernetesConfig(pods_url=url, token_file=str(token), timeout_seconds=10.0)
        (found,) = listed(known)
        with pytest.raises(SourceRetry, match="certificate verify failed"):
            listed(
                KubernetesConfig(pods_url=url, token_file=str(token), ca_file=str(certificate), timeout_seconds=10.0)
            )
        with pytest.raises(SourceRetry, match="its key cannot be read"):
            listed(KubernetesConfig(pods_url=url, token_file=str(tmp_path / "none")))
        with pytest.raises(SourceRetry, match="authority cannot be read"):
            listed(KubernetesConfig(pods_url=url, ca_file=str(tmp_path / "none")))

    assert found.pod == "chat-0"


def test_a_place_that_is_found_stands_over_an_annotation() -> None:
    """The process's own container is surer than what its pod's owner wrote."""
    target = Target("s", "http://h", place=Place("llm", "chat-0"))

    assert target.where(Place("llm", "chat-1", "server")) == Place("llm", "chat-1", "server")
