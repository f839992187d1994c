"""Accounts on a BMC: sessions, basic authentication, refusals, and a password that nobody gets to see."""

import os
import ssl
import stat
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec
import pytest

from inferwatt.errors import InferwattError, SourceRetry
from inferwatt.sources import SourcesConfig
from inferwatt.sources.redfish import Bmc, discover
from inferwatt.sources.redfish_session import REFUSED_NS, read_password
from inferwatt.sources.settings import RedfishConfig
from inferwatt.sources.slow import Postponed, SlowDevice
from tests.doubles.redfish import CHASSIS, PASSWORD, SESSIONS, USER, RedfishBmc, Reply, chassis, control
from tests.real.prometheus import program

POWER = f"{CHASSIS}/1/Power"


@pytest.fixture
def password_file(tmp_path: Path) -> Path:
    """Return a file with the password, for its owner only."""
    file = tmp_path / "bmc-password"
    file.write_text(f"{PASSWORD}\n")
    file.chmod(0o600)
    return file


def guarded() -> RedfishBmc:
    """Return a BMC that wants an account for everything but its root."""
    return RedfishBmc(chassis(power=control(214)), account=True)


def asking(service: RedfishBmc, file: Path, user: str = USER) -> Bmc:
    """Return who asks it."""
    return Bmc(RedfishConfig(url=service.url, username=user, password_file=str(file)))


def test_a_session_is_opened_once_and_ended_at_the_end(password_file: Path) -> None:
    """The password is sent once, in the login; the last question ends the session, for a BMC has few places."""
    with guarded() as service:
        bmc = asking(service, password_file)
        powers = [bmc.poll().power_mw for _ in range(3)]
        during = dict(service.sessions)
        bmc.close()

        assert powers == [214_000] * 3
        assert (service.logins, len(during), service.sessions) == (1, 1, {})
        assert [question.path for question in service.asked if PASSWORD.encode() in question.body] == [SESSIONS]
        assert not any("authorization" in question.headers for question in service.asked)


def test_a_session_that_ran_out_is_opened_again(password_file: Path) -> None:
    """Within the same poll: nothing is lost."""
    with guarded() as service:
        bmc = asking(service, password_file)
        bmc.poll()
        service.sessions.clear()

        assert bmc.poll().power_mw == 214_000
        assert service.logins == 2
        bmc.close()


def test_a_bmc_without_sessions_gets_the_password_each_time(password_file: Path) -> None:
    """By basic authentication."""
    with guarded() as service:
        service.has_sessions = False
        bmc = asking(service, password_file)

        assert [bmc.poll().power_mw, bmc.poll().power_mw] == [214_000] * 2
        assert service.asked[-1].headers["authorization"].startswith("Basic ")
        bmc.close()


@pytest.mark.parametrize("reply", [Reply(503, b"{}"), Reply(201, b"{}"), Reply(201, b"{}", {"X-Auth-Token": "a b"})])
def test_a_bmc_without_room_for_a_session_gets_it_too(password_file: Path, reply: Reply) -> None:
    """And one whose token is none."""
    with guarded() as service:
        service.replies[SESSIONS] = reply
        bmc = asking(service, password_file)

        assert bmc.poll().power_mw == 214_000
        bmc.close()


@pytest.mark.parametrize("has_sessions", [True, False])
def test_a_refused_password_is_not_tried_again_at_once(password_file: Path, *, has_sessions: bool) -> None:
    """Once in ten minutes: a few tries more would lock the account. A new password in the file is used then."""
    with guarded() as service:
        service.has_sessions, service.password = has_sessions, "another"
        bmc = asking(service, password_file)
        with pytest.raises(Postponed, match=rf"refuses {USER} \(401\)\n.*\n.*{password_file}") as failure:
            bmc.poll()
        tries = sum(
            "authorization" in question.headers or PASSWORD.encode() in question.body for question in service.asked
        )
        password_file.write_text("another\n")

        assert failure.value.after_ns == REFUSED_NS
        assert tries == 1 if has_sessions else 2
        assert bmc.poll().power_mw == 214_000
        bmc.close()


def test_an_account_without_the_right_is_told_from_a_wrong_one(password_file: Path) -> None:
    """403 asks for a role."""
    with guarded() as service:
        service.replies[POWER] = Reply(403, b"{}")
        bmc = asking(service, password_file)

        with pytest.raises(Postponed, match=rf"does not let {USER} read this \(403\)\n.*\n.*role ReadOnly"):
            bmc.poll()
        bmc.close()


def test_a_bmc_that_wants_an_account_says_so() -> None:
    """Where none is configured."""
    with guarded() as service:
        bmc = Bmc(RedfishConfig(url=service.url))

        with pytest.raises(Postponed, match=r"asks for an account \(401\)\n.*\n.*sources.redfish.username"):
            bmc.poll()
        bmc.close()


def test_nobody_gets_to_see_the_password(password_file: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Not in an error, its cause, what is printed, or a label, whatever fails at whichever step."""
    failures: list[BaseException] = []
    for path in (SESSIONS, "/redfish/v1", CHASSIS, f"{CHASSIS}/1", POWER):
        for reply in (
            Reply(400, b"<"),
            Reply(401),
            Reply(500),
            Reply(200, b"<"),
            Reply(302, b"", {"Location": "//x/"}),
        ):
            with guarded() as service:
                service.replies[path] = reply
                bmc = asking(service, password_file)
                try:
                    bmc.poll()
                except InferwattError as exc:
                    failures.append(exc)
                bmc.close()
    told = "".join(f"{exc!r} {exc} {exc.__cause__!r} {vars(exc)}" for exc in failures)
    source = discover(
        SourcesConfig(redfish=(RedfishConfig(url="https://bmc", username=USER, password_file=str(password_file)),))
    )

    assert len(failures) > 15
    assert PASSWORD not in told
    assert "Basic" not in told
    assert PASSWORD not in repr(source.sources[0].device)
    assert PASSWORD not in "".join(capfd.readouterr())


@pytest.mark.parametrize(
    ("mode", "text", "what"),
    [
        (0o604, "secret\n", r"every user can read the password\n.*\n.*chmod 600"),
        (0o600, "\nsecret", r"no password in the file\n.*\n.*umask 077"),
        (0o600, "", "no password in the file"),
        (0o600, "\udcff", "not UTF-8 text"),
    ],
)
def test_a_password_file_that_is_none_is_refused(tmp_path: Path, mode: int, text: str, what: str) -> None:
    """One that others can read is as good as published."""
    file = tmp_path / "password"
    file.write_bytes(text.encode("utf-8", "surrogateescape"))
    file.chmod(mode)

    with pytest.raises(SourceRetry, match=what):
        read_password(str(file))


def test_a_pipe_is_no_password_file(tmp_path: Path) -> None:
    """Opening one would wait for ever."""
    os.mkfifo(tmp_path / "pipe")

    with pytest.raises(SourceRetry, match="password"):
        read_password(str(tmp_path / "pipe"))


def test_a_password_is_the_first_line(tmp_path: Path) -> None:
    """Spaces belong to it, line ends do not."""
    file = tmp_path / "password"
    file.write_bytes(b" two words \r\nmore")
    file.chmod(stat.S_IRUSR)

    assert read_password(str(file)) == " two words "


@pytest.mark.parametrize(
    ("entry", "what"),
    [
        ({"url": "bmc"}, "not the address of a BMC"),
        ({"url": "https://root:calvin@bmc"}, "not the address of a BMC"),
        ({"url": "https://bmc/redfish/v1/Systems"}, "not the address of a BMC"),
        ({"url": "http://bmc", "username": "me", "password_file": "/x"}, "for everybody to read"),
        ({"url": "https://bmc", "username": "me"}, "no password for me"),
        ({"url": "https://bmc", "username": "me", "password_file": "/no/such"}, "No such file"),
        ({"url": "https://bmc", "ca_file": "/no/such"}, "cannot read the certificate"),
    ],
)
def test_an_entry_that_cannot_work_is_a_lack(entry: dict[str, str], what: str) -> None:
    """Before anything is sent, and without the account that stands in an address."""
    found = discover(SourcesConfig(redfish=(msgspec.convert(entry, RedfishConfig),)))

    assert found.sources == ()
    assert what in found.lacks[0].what
    assert (found.lacks[0].source, found.lacks[0].component) == ("redfish", "overhead")
    assert "calvin" not in repr(found.lacks)


@pytest.fixture
def certified(tmp_path: Path) -> Callable[[str], tuple[ssl.SSLContext, Path]]:
    """Return what makes a certificate of its own authority for a host, by the real openssl."""

    def certify(host: str) -> tuple[ssl.SSLContext, Path]:
        key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
        subject = ["-subj", f"/CN={host}", "-addext", f"subjectAltName=DNS:{host}", "-days", "2", "-nodes"]
        made = ["-keyout", str(key), "-out", str(certificate), "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
        subprocess.run([program("openssl"), "req", "-x509", *made, *subject], check=True, capture_output=True)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        return context, certificate

    return certify


@pytest.mark.real
def test_a_certificate_is_checked_unless_the_user_says_otherwise(
    certified: Callable[[str], tuple[ssl.SSLContext, Path]], password_file: Path
) -> None:
    """A BMC's own certificate is refused, accepted with its ``ca_file``, and not looked at without ``verify_tls``."""
    context, certificate = certified("localhost")
    with RedfishBmc(chassis(power=control(214)), account=True, tls=context) as service:
        account = {"url": service.url, "username": USER, "password_file": str(password_file)}
        assert "not trusted" in trouble(account)
        assert service.asked == []
        assert trouble({**account, "ca_file": str(certificate)}) == ""
        assert trouble({**account, "verify_tls": False}) == ""


@pytest.mark.real
def test_a_certificate_for_another_host_is_refused(certified: Callable[[str], tuple[ssl.SSLContext, Path]]) -> None:
    """Also where its authority is trusted."""
    context, certificate = certified("another.example")
    with RedfishBmc(chassis(power=control(214)), tls=context) as service:
        assert "not trusted" in trouble({"url": service.url, "ca_file": str(certificate)})


def trouble(entry: Mapping[str, object]) -> str:
    """Return what is wrong with the first poll of an entry, nothing where it works."""
    source = discover(SourcesConfig(redfish=(msgspec.convert(entry, RedfishConfig),))).sources[0]
    assert isinstance(source, SlowDevice)
    lack = source.look()
    source.close()
    return lack.what if lack else ""
