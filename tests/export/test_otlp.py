"""Where an OTLP receiver is, and who may be told: what is refused at the start, before anything is sent."""

import sys
from pathlib import Path

import pytest

from inferwatt.errors import ConfigError, Unavailable
from inferwatt.export.exporter import About, of_kubernetes
from inferwatt.export.otlp import HEADERS_VARIABLE, check_endpoint, open_exporter, read_attributes, read_headers
from inferwatt.export.settings import ExportConfig, OtlpConfig

ABOUT = About("node-1", "0.1.0", 0)
SECRET = "0123456789abcdef"


@pytest.fixture(autouse=True)
def _no_headers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out what this machine's environment says."""
    monkeypatch.delenv(HEADERS_VARIABLE, raising=False)


def test_nothing_is_sent_unless_it_is_named() -> None:
    """No endpoint, no exporter: OTEL_EXPORTER_OTLP_ENDPOINT is for other programs."""
    assert open_exporter(ExportConfig(), ABOUT) is None


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_a_missing_extra_says_its_install_line(protocol: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In words that can be pasted."""
    monkeypatch.setitem(sys.modules, "inferwatt.export.otlp_exporter", None)
    config = OtlpConfig("http://127.0.0.1:4318", "grpc" if protocol == "grpc" else "http")
    extra = "otlp-grpc" if protocol == "grpc" else "otlp"

    with pytest.raises(Unavailable, match=rf"pip install 'inferwatt\[{extra}\]'"):
        open_exporter(ExportConfig(otlp=config), ABOUT)


@pytest.mark.parametrize(
    "endpoint",
    ["127.0.0.1:4318", "unix:///x", "http://", "https://user:pw@otlp.example", "https://otlp.example?key=1"],
)
def test_what_is_no_address_is_refused(endpoint: str) -> None:
    """With one that is."""
    with pytest.raises(ConfigError, match=r"no address of an OTLP receiver\n.*endpoint\n.*http://127.0.0.1:4318"):
        check_endpoint(OtlpConfig(endpoint), has_headers=False)


def test_grpc_has_no_path() -> None:
    """By HTTP a prefix is a receiver's own, by gRPC it would silently be left out."""
    check_endpoint(OtlpConfig("https://otlp.example/otlp"), has_headers=True)

    with pytest.raises(ConfigError, match="4317"):
        check_endpoint(OtlpConfig("https://otlp.example/otlp", "grpc"), has_headers=False)


def test_a_token_does_not_go_in_the_clear() -> None:
    """Without headers a collector in the cluster may be asked by http; with them only by https, or on this machine."""
    check_endpoint(OtlpConfig("http://collector:4318"), has_headers=False)
    check_endpoint(OtlpConfig("http://127.0.0.1:4318"), has_headers=True)

    with pytest.raises(ConfigError, match="in the clear"):
        check_endpoint(OtlpConfig("http://collector:4318"), has_headers=True)


def test_headers_are_of_the_file_or_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file's stand alone; the environment's are spelled as OpenTelemetry has it."""
    file = tmp_path / "headers"
    file.write_text(f"authorization: Bearer {SECRET}\n\nx-scope: a:b\n")
    monkeypatch.setenv(HEADERS_VARIABLE, f"authorization=Basic%20{SECRET}, x-team = red")

    assert read_headers(OtlpConfig(headers_file=str(file))) == {
        "authorization": f"Bearer {SECRET}",
        "x-scope": "a:b",
    }
    assert read_headers(OtlpConfig()) == {"authorization": f"Basic {SECRET}", "x-team": "red"}


@pytest.mark.parametrize(
    "text", [f"{SECRET}\n", f"a b: {SECRET}\n", f"name: {SECRET}\x07\n", f"name: {SECRET}é\n", "name:"]
)
def test_what_is_no_header_is_refused_without_a_word_of_it(text: str, tmp_path: Path) -> None:
    """A token is in no error."""
    file = tmp_path / "headers"
    file.write_text(text, encoding="utf-8")

    with pytest.raises(ConfigError, match=r"export\.otlp\.headers_file") as refusal:
        read_headers(OtlpConfig(headers_file=str(file)))
    assert SECRET not in str(refusal.value)
    assert refusal.value.__cause__ is None


def test_headers_that_are_not_there_are_told_at_the_start(tmp_path: Path) -> None:
    """Not at the first batch."""
    config = OtlpConfig("http://127.0.0.1:4318", headers_file=str(tmp_path / "none"))

    with pytest.raises(ConfigError, match="No such file"):
        open_exporter(ExportConfig(otlp=config), ABOUT)


def test_attributes_are_pairs() -> None:
    """A value may hold an equals sign; what is none is shown."""
    assert read_attributes(OtlpConfig(attributes=("service.namespace=search", "a = b=c"))) == {
        "service.namespace": "search",
        "a": "b=c",
    }
    for wrong in ("name", "=value", "name="):
        with pytest.raises(ConfigError, match="no attribute"):
            read_attributes(OtlpConfig(attributes=(wrong,)))


def test_where_it_runs_is_what_the_downward_api_says() -> None:
    """What was not asked for is left out."""
    assert of_kubernetes({"INFERWATT_NODE_NAME": "n1", "INFERWATT_POD": "p", "INFERWATT_CONTAINER": ""}) == (
        ("k8s.node.name", "n1"),
        ("k8s.pod.name", "p"),
    )
