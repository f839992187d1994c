"""Which instance this is: by DMI trees with real files, and by a stand-in of the clouds' metadata services."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferwatt.sources.cloud import AZURE, EC2, GCE, ORACLE, SERVICES, Instance, by_dmi, recognise
from inferwatt.sources.instances import SERIES, UNKNOWN, series_of
from tests.doubles.metadata import serving
from tests.doubles.raw_server import RawServer, Script

from .trees import Dmi

LONG_SECONDS = 20.0
"""For questions that are answered: how long it takes is not what those tests ask."""
AZURE_TAG = "7783-7084-3265-9085-8269-3286-77"
NOBODY = "http://127.0.0.1:9"
"""The discard service, which nobody runs: a connection is refused at once."""


def found(root: Path, address: str, *, is_guest: bool = True, may_ask: bool = True) -> Instance:
    """Return what is recognised, with all the time that it needs."""
    return recognise(str(root), is_guest=is_guest, may_ask=may_ask, address=address, timeout_seconds=LONG_SECONDS)


@contextmanager
def scripted(script: Script) -> Iterator[str]:
    """Run a service that follows a script, at the address that this yields."""
    server = RawServer(script)
    yield server.url
    server.close()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ({"sys_vendor": "Amazon EC2", "product_name": "m7i.4xlarge"}, Instance(EC2, "m7i.4xlarge")),
        ({"sys_vendor": "Amazon EC2", "product_name": "u-12tb1.112xlarge"}, Instance(EC2, "u-12tb1.112xlarge")),
        ({"sys_vendor": "Amazon EC2", "product_name": "Not Specified"}, Instance(EC2)),
        ({"sys_vendor": "Google", "product_name": "Google Compute Engine"}, Instance(GCE)),
        (
            {"sys_vendor": "Microsoft Corporation", "product_name": "Virtual Machine", "chassis_asset_tag": AZURE_TAG},
            Instance(AZURE),
        ),
        ({"sys_vendor": "Microsoft Corporation", "product_name": "Virtual Machine"}, Instance("Hyper-V")),
        ({"chassis_asset_tag": "OracleCloud.com"}, Instance(ORACLE)),
        ({"sys_vendor": "Alibaba Cloud", "product_name": "Alibaba Cloud ECS"}, Instance("Alibaba Cloud")),
        ({"sys_vendor": "OpenStack Foundation", "product_name": "OpenStack Nova"}, Instance("OpenStack")),
        ({"sys_vendor": "QEMU", "product_name": "Standard PC (Q35 + ICH9, 2009)"}, Instance("KVM")),
        ({"sys_vendor": "Dell Inc.", "product_name": "PowerEdge XE9680"}, Instance()),
        ({}, Instance()),
    ],
)
def test_the_firmware_names_the_cloud_and_on_ec2_the_type(
    tmp_path: Path, words: dict[str, str], expected: Instance
) -> None:
    """Nobody needs to be asked, and a machine of one's own is no instance."""
    Dmi(tmp_path).says(**words)

    assert by_dmi(tmp_path / "class" / "dmi" / "id") == expected


@pytest.mark.parametrize(
    ("service", "words", "expected"),
    [
        ("ec2", {"sys_vendor": "Amazon EC2", "product_name": "HVM domU"}, Instance(EC2, "t2.large")),
        ("gce", {"product_name": "Google Compute Engine"}, Instance(GCE, "c3-standard-8")),
        ("azure", {"chassis_asset_tag": AZURE_TAG}, Instance(AZURE, "Standard_NC40ads_H100_v5")),
        ("oracle", {"chassis_asset_tag": "OracleCloud.com"}, Instance(ORACLE, "VM.Standard.E5.Flex")),
    ],
)
def test_a_clouds_own_service_names_the_type(
    tmp_path: Path, service: str, words: dict[str, str], expected: Instance
) -> None:
    """With the token or the header that it wants, and no question of another cloud's."""
    Dmi(tmp_path).says(**words)
    with serving(service, expected.type) as cloud:
        assert found(tmp_path, cloud.address) == expected
        assert len(cloud.asked) == len(SERVICES[expected.cloud])


@pytest.mark.parametrize(
    ("service", "cloud", "kind"),
    [("ec2", EC2, "m7a.large"), ("gce", GCE, "t2d-standard-4"), ("azure", AZURE, "Standard_D4s_v5")],
)
def test_a_virtual_machine_without_firmware_words_asks_each_in_turn(
    tmp_path: Path, service: str, cloud: str, kind: str
) -> None:
    """Only the right one answers."""
    with serving(service, kind) as asked:
        assert found(tmp_path, asked.address) == Instance(cloud, kind)


@pytest.mark.parametrize(
    ("words", "is_guest", "may_ask"),
    [
        (None, False, True),
        (None, True, False),
        ({"product_name": "Google Compute Engine"}, True, False),
        ({"sys_vendor": "Amazon EC2", "product_name": "m7i.large"}, True, True),
        ({"sys_vendor": "Dell Inc."}, False, True),
        ({"sys_vendor": "QEMU"}, True, True),
        ({"sys_vendor": "Hetzner"}, True, True),
    ],
)
def test_nobody_is_asked_without_need_or_leave(
    tmp_path: Path, words: dict[str, str] | None, is_guest: bool, may_ask: bool
) -> None:
    """Not on bare metal, not where the setting forbids it, the type is known, or no such service can be there."""
    if words is not None:
        Dmi(tmp_path).says(**words)
    with serving("gce", "n2-standard-2") as cloud:
        found(tmp_path, cloud.address, is_guest=is_guest, may_ask=may_ask)
        assert cloud.asked == []


def test_the_answer_is_kept_so_that_a_later_search_asks_nobody(tmp_path: Path) -> None:
    """The sampler's thread looks for lost devices again and again, and must not wait for a network."""
    with serving("gce", "n2-standard-2") as cloud:
        first = found(tmp_path, cloud.address)
        asked = len(cloud.asked)
        assert found(tmp_path, cloud.address) == first
        assert len(cloud.asked) == asked
    assert found(tmp_path, cloud.address) == first


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\n\r\nnot-found",
        b"HTTP/1.1 200 OK\r\nContent-Length: 22\r\n\r\n<html>log in, please</>",
        b"HTTP/1.1 302 Found\r\nLocation: http://elsewhere.example/\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nm5.xl\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 999999\r\n\r\n" + b"a" * 20_000,
        b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n\xff\xfe\xfd\xfc",
        b"SSH-2.0-OpenSSH_9.2\r\n",
    ],
)
def test_nonsense_is_no_type(tmp_path: Path, answer: bytes) -> None:
    """A login page, a redirect, another protocol: the machine is an instance of that cloud, of unknown type."""
    Dmi(tmp_path).says(product_name="Google Compute Engine")

    def say_and_hang_up(connection: socket.socket, _asked: bytes) -> None:
        connection.sendall(answer)
        connection.shutdown(socket.SHUT_RDWR)

    with scripted(say_and_hang_up) as address:
        assert found(tmp_path, address) == Instance(GCE)


@pytest.mark.parametrize("pieces", [(), (b"HTTP/1.1 200 OK\r\nContent-Length: 60\r\n\r\n", *[b"n"] * 60)])
def test_who_does_not_answer_in_time_is_not_waited_for(tmp_path: Path, pieces: tuple[bytes, ...]) -> None:
    """A service that says nothing, or one byte every 20 ms for 1.2 s, costs 100 ms in all."""
    Dmi(tmp_path).says(product_name="Google Compute Engine")
    ended = threading.Event()

    def drip(connection: socket.socket, _asked: bytes) -> None:
        for piece in pieces:
            connection.sendall(piece)
            if ended.wait(0.02):
                return
        ended.wait()

    with scripted(drip) as address:
        assert recognise(str(tmp_path), is_guest=True, may_ask=True, address=address) == Instance(GCE)
        ended.set()


def test_a_token_that_is_none_is_not_sent_on(tmp_path: Path) -> None:
    """What came back must not break the next question's headers."""
    Dmi(tmp_path).says(sys_vendor="Amazon EC2")

    with scripted(
        lambda connection, _: connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n\xc3\xa4")
    ) as at:
        assert found(tmp_path, at) == Instance(EC2)


def test_no_thread_is_started_to_ask(tmp_path: Path) -> None:
    """What is late is given up, not left behind."""
    Dmi(tmp_path).says(product_name="Google Compute Engine")
    before = threading.active_count()

    assert found(tmp_path, NOBODY) == Instance(GCE)
    assert threading.active_count() == before


@given(st.sampled_from([EC2, GCE, AZURE, "", "KVM"]), st.text(max_size=30))
def test_any_text_is_an_instance_type_of_which_little_is_known(cloud: str, text: str) -> None:
    """What is published is found by type, and everything else is unknown."""
    series = series_of(Instance(cloud, text))

    assert series == UNKNOWN or (series in SERIES and series.cloud == cloud)


@pytest.mark.parametrize(
    ("instance", "expected"),
    [
        (Instance(EC2, "m7i.large"), ("Sapphire Rapids", 1, "")),
        (Instance(EC2, "c7i-flex.large"), ("Sapphire Rapids", 1, "")),
        (Instance(EC2, "m7a.large"), ("Zen 4", 2, "")),
        (Instance(EC2, "m6id.metal"), ("Ice Lake", 1, "")),
        (Instance(EC2, "c6gn.large"), ("Neoverse N1", 1, "")),
        (Instance(EC2, "m8g.large"), ("", 1, "")),
        (Instance(EC2, "p5.48xlarge"), ("Zen 3", 1, "NVIDIA H100")),
        (Instance(EC2, "p5en.48xlarge"), ("Sapphire Rapids", 1, "NVIDIA H200")),
        (Instance(EC2, "g6e.xlarge"), ("Zen 3", 1, "NVIDIA L40S")),
        (Instance(GCE, "t2d-standard-8"), ("", 2, "")),
        (Instance(GCE, "a3-megagpu-8g"), ("", 1, "NVIDIA H100")),
        (Instance(AZURE, "Standard_ND96isr_H100_v5"), ("", 1, "NVIDIA H100")),
        (Instance(AZURE, "Standard_D4s_v5"), ("", 1, "")),
        (Instance(GCE, "m7i.large"), ("", 1, "")),
        (Instance(EC2), ("", 1, "")),
    ],
)
def test_what_is_published_of_an_instance_type(instance: Instance, expected: tuple[str, int, str]) -> None:
    """Processor, threads per logical CPU, accelerator; nothing of one cloud's for another's."""
    series = series_of(instance)

    assert (series.microarchitecture, series.threads, series.accelerator) == expected
