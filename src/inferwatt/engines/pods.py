"""Servers by the annotations of pods: which page to read is what their owner wrote down for Prometheus.

The kubelet of this node lists its own pods (`GET /pods`, authorised as `nodes/proxy`; Kubernetes, "Kubelet
authentication/authorization"); the API server is never asked. `prometheus.io/scrape`, `/port` and `/path` are the usual
annotations, `prometheus.kserve.io/port` and `/path` KServe's (its documentation, "Prometheus metrics"). A page is
believed only if it has the metrics of a kind: most annotated pods are no inference servers.
"""

import ipaddress
import ssl
from collections.abc import Callable, Iterable, Iterator, Mapping
from urllib.parse import urlsplit

import msgspec

from inferwatt.engines.candidates import shows
from inferwatt.engines.fetch import Fetch, HttpFetch, is_address
from inferwatt.engines.servers import KubernetesConfig, ServerKind, Target
from inferwatt.errors import InferwattError, SourceRetry
from inferwatt.loopback import is_loopback
from inferwatt.records import Place

MOST_PODS = 64
"""How many annotated pods are asked; a node has 110 pods at most by default."""
KSERVE, USUAL = "prometheus.kserve.io/", "prometheus.io/"


class _Meta(msgspec.Struct, frozen=True):
    name: str = ""
    namespace: str = ""
    annotations: dict[str, str] = {}


class _Status(msgspec.Struct, frozen=True):
    phase: str = ""
    podIP: str = ""  # noqa: N815 - as Kubernetes spells it


class _Pod(msgspec.Struct, frozen=True):
    metadata: _Meta
    status: _Status = _Status()


class _Pods(msgspec.Struct, frozen=True):
    items: list[_Pod] = []


class Annotated(msgspec.Struct, frozen=True):
    """A page that a pod's owner has written down: whose, and where."""

    namespace: str
    pod: str
    address: str
    path: str


def annotated(body: bytes) -> tuple[Annotated, ...]:
    """Return the pages that running pods are annotated with.

    Raises:
        msgspec.DecodeError: it is no list of pods.
    """
    found = []
    for pod in msgspec.json.decode(body, type=_Pods).items:
        told = pod.metadata.annotations
        kserve = told.get(f"{KSERVE}port")
        if pod.status.phase != "Running" or not (kserve or told.get(f"{USUAL}scrape") == "true"):
            continue
        port, prefix = (kserve, KSERVE) if kserve else (told.get(f"{USUAL}port", ""), USUAL)
        address = _address(pod.status.podIP, port)
        if address:
            path = "/" + told.get(f"{prefix}path", "/metrics").lstrip("/")
            found.append(Annotated(pod.metadata.namespace, pod.metadata.name, address, path))
    return tuple(found)


def _address(host: str, port: str) -> str:
    """Return where a pod serves, empty where that is no address or port."""
    try:
        text = f"[{host}]" if ipaddress.ip_address(host).version == 6 else host
    except ValueError:
        return ""
    is_port = port.isascii() and port.isdecimal() and 0 < int(port) < 65536
    return f"http://{text}:{int(port)}" if is_port else ""


def listed(config: KubernetesConfig) -> tuple[Annotated, ...]:
    """Ask the kubelet for the annotated pods of its node, none where it is not to be asked.

    Raises:
        SourceRetry: it does not say.
    """
    where, fix = config.pods_url, "let the agent's account get nodes/proxy, or leave engines.kubernetes.pods_url empty"
    if not where:
        return ()
    if not is_address(where):
        raise SourceRetry("it is no address", where=where, fix='pods_url = "https://127.0.0.1:10250/pods"')
    parts = urlsplit(where)
    token_file = config.token_file if parts.scheme == "https" else ""  # never in plain text
    asks = HttpFetch(f"{parts.scheme}://{parts.netloc}", config.timeout_seconds, token_file, _tls(config, where))
    try:
        answer = asks.get(parts.path or "/pods")
        if answer is None or answer.status != 200 or not answer.whole:
            why = "no answer in time" if answer is None else f"it answers {answer.status}"
            raise SourceRetry(f"the kubelet does not list its pods: {why}", where=where, fix=fix)
        return annotated(answer.body)
    except msgspec.DecodeError as exc:
        raise SourceRetry(f"the kubelet's list of pods cannot be read: {exc}", where=where, fix=fix) from exc
    finally:
        asks.close()


def _tls(config: KubernetesConfig, where: str) -> ssl.SSLContext | None:
    """Return how the kubelet is trusted: by an authority, else, on this machine alone, by its address.

    By default a kubelet has a certificate that it signed itself.
    """
    if not where.startswith("https:"):
        return None
    try:
        context = ssl.create_default_context(cafile=config.ca_file or None)
    except OSError as exc:
        what = f"the kubelet's authority cannot be read: {exc.strerror}"
        raise SourceRetry(what, where=config.ca_file, fix="correct engines.kubernetes.ca_file") from exc
    if not config.ca_file and is_loopback(urlsplit(where).hostname or ""):
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def servers(
    pages: Iterable[Annotated],
    kinds: Mapping[str, ServerKind],
    timeout_seconds: float,
    *,
    fetch: Callable[[str, float], Fetch] = HttpFetch,
) -> Iterator[Target]:
    """Yield the annotated pages that are those of an inference server, by the names of its metrics.

    Args:
        pages: the annotated pages.
        kinds: all kinds of server.
        timeout_seconds: how long each may take to answer.
        fetch: how a server is asked.
    """
    for page in tuple(pages)[:MOST_PODS]:
        asks = fetch(page.address, timeout_seconds)
        try:
            answer = asks.get(page.path)
        except InferwattError:
            continue
        finally:
            asks.close()
        kind = _kind(answer.body, kinds) if answer is not None and answer.status == 200 else ""
        if kind:
            place = Place(page.namespace, page.pod)
            name = f"{kind}:{page.address.removeprefix('http://')}"
            why = f"annotations of pod {page.namespace}/{page.pod}, and its own word"
            yield Target(name, page.address, kind, why=why, metrics_path=page.path, place=place)


def _kind(body: bytes, kinds: Mapping[str, ServerKind]) -> str:
    """Return the first kind whose metrics a page has, empty where it has none's."""
    return next((name for name, kind in kinds.items() if kind.has_metrics and shows(kind, body)), "")
