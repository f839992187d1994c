"""The whole server by IPMI: the real ipmitool against a stand-in BMC, and programs that behave badly."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferwatt.errors import SourceRetry
from inferwatt.records import Component, Provenance
from inferwatt.sources import SourcesConfig
from inferwatt.sources.ipmi import READING, Ipmitool, discover, figure_mw
from inferwatt.sources.server import NoFigure
from inferwatt.sources.settings import IpmiConfig, RedfishConfig
from inferwatt.sources.slow import Postponed
from tests.doubles.ipmi import PASSWORD, IpmiBmc
from tests.real.conftest import missing
from tests.real.prometheus import program

PRINTED = """
    Instantaneous power reading:                   220 Watts
    Minimum during sampling period:                180 Watts
    Maximum during sampling period:                260 Watts
    Average power reading over sample period:      215 Watts
    IPMI timestamp:                           09/12/23 06:06:56 UTC    Sampling period:           00000001 Seconds.
    Power reading state is:                   activated


"""
"""What ipmitool 1.8.19 prints, as the stand-in's answer came out of it."""


@pytest.fixture
def bmc(tmp_path: Path) -> Iterator[IpmiBmc]:
    """The stand-in BMC."""
    if find_spec("pyghmi") is None:
        missing("pyghmi is not installed: pip install pyghmi")
    with IpmiBmc(tmp_path) as running:
        yield running


@pytest.mark.real
def test_the_real_ipmitool_reads_the_figure_of_the_bmc(bmc: IpmiBmc) -> None:
    """Through a real session over the network; what is printed is what we read."""
    tool = Ipmitool(IpmiConfig(enabled=True, command=bmc.command(program("ipmitool")), timeout_seconds=20.0))
    powers = [tool.poll().power_mw]
    bmc.say(watts=4321)
    printed = subprocess.run([*bmc.command("ipmitool"), *READING], check=True, capture_output=True, text=True).stdout

    assert [*powers, tool.poll().power_mw] == [220_000, 4_321_000]
    assert printed.split() == PRINTED.replace("   220", "  4321").split()


@pytest.mark.real
@pytest.mark.parametrize(
    ("answer", "what"),
    [
        ({"state": 0}, "power reading is deactivated"),
        ({"watts": 0}, "power reading is 0 W, which cannot be"),
        ({"watts": 65535}, "power reading is not available"),
        ({"code": 0xC1}, "without DCMI power readings"),
        ({"code": 0xD4}, r"refused by the BMC\n.*\n.*level User"),
        ({"code": 0xC0}, r"ended with status 1: .*\(c0\)"),
    ],
    ids=["deactivated", "zero", "all-ones", "no-dcmi", "privilege", "busy"],
)
def test_what_is_no_figure_is_unknown(bmc: IpmiBmc, answer: dict[str, int], what: str) -> None:
    """Never 0 W: by the real ipmitool's own words."""
    bmc.say(**answer)
    tool = Ipmitool(IpmiConfig(enabled=True, command=bmc.command(program("ipmitool")), timeout_seconds=20.0))

    with pytest.raises(SourceRetry, match=what):
        tool.poll()


@pytest.mark.real
def test_a_wrong_password_is_not_tried_at_once_again(bmc: IpmiBmc, tmp_path: Path) -> None:
    """It looks as a BMC that is not there, so both wait a minute."""
    wrong = tmp_path / "wrong"
    wrong.write_text("wrong")
    command = bmc.command(program("ipmitool"), wrong)
    tool = Ipmitool(IpmiConfig(enabled=True, command=command, timeout_seconds=20.0))

    with pytest.raises(Postponed, match=r"no session with the BMC\n.*\n.*the password after -f") as failure:
        tool.poll()
    assert failure.value.after_ns == 60_000_000_000


@pytest.mark.real
def test_a_machine_without_a_bmc_says_what_to_load() -> None:
    """The real ipmitool on the local device, where there is none."""
    if any(Path("/dev").glob("ipmi*")):
        pytest.skip("this machine has a BMC")
    tool = Ipmitool(IpmiConfig(enabled=True, command=(program("ipmitool"),), timeout_seconds=20.0))

    with pytest.raises(SourceRetry, match=r"finds no IPMI device\n.*\n.*modprobe -a ipmi_si ipmi_devintf"):
        tool.poll()


@pytest.fixture
def script(tmp_path: Path) -> Callable[[str], tuple[str, ...]]:
    """Return what makes a program named ipmitool of some lines of shell."""

    def make(lines: str) -> tuple[str, ...]:
        file = tmp_path / "ipmitool"
        file.write_text(f"#!/bin/sh\n{lines}\n")
        file.chmod(0o700)
        return (str(file),)

    return make


def poll(command: tuple[str, ...], timeout_seconds: float = 20.0) -> int | None:
    """Run a command once, as the slow thread does, and return the power in mW."""
    return Ipmitool(IpmiConfig(enabled=True, command=command, timeout_seconds=timeout_seconds)).poll().power_mw


def test_our_words_come_after_the_users(script: Callable[[str], tuple[str, ...]]) -> None:
    """In plain English, with nothing to read from, and without a shell."""
    command = script(f"""[ "$*" = "-I open;x dcmi power reading" ] && [ "$LC_ALL" = C ] && ! read line && cat <<'END'
{PRINTED}
END""")

    assert poll((*command, "-I", "open;x")) == 220_000


def test_a_program_that_hangs_is_killed_with_all_that_it_started(
    script: Callable[[str], tuple[str, ...]], tmp_path: Path
) -> None:
    """A child of its own would hold the pipe, and live on."""
    command = script(f"sh -c 'echo $$ > {tmp_path}/child; sleep 600' &\nwait")

    with pytest.raises(SourceRetry, match=r"did not end within 0.5 s\n.*\n.*timeout_seconds"):
        poll(command, 0.5)
    child = int((tmp_path / "child").read_text())
    assert ends(child)


def ends(pid: int) -> bool:
    """Wait until a process that was killed is gone, or a zombie that nobody has fetched yet."""
    for _ in range(200):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return True
        if state in {"Z", "X"}:
            return True
        time.sleep(0.01)
    return False


def test_a_program_that_cannot_be_killed_is_not_doubled(
    script: Callable[[str], tuple[str, ...]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What runs as root, or is stuck in a driver, is left, and asked about at each poll until it has ended."""
    command = script(f"""if [ -e {tmp_path}/again ]; then cat <<'END'
{PRINTED}
END
else touch {tmp_path}/again; echo $$ > {tmp_path}/pid; exec sleep 600; fi""")
    tool = Ipmitool(IpmiConfig(enabled=True, command=command, timeout_seconds=1.5))
    with monkeypatch.context() as kernel:
        kernel.setattr(os, "killpg", refuse)
        with pytest.raises(SourceRetry, match="did not end"):
            tool.poll()
    with pytest.raises(SourceRetry, match=r"still hangs since an earlier poll\n.*\n.*dmesg"):
        tool.poll()
    pid = int((tmp_path / "pid").read_text())
    os.kill(pid, signal.SIGKILL)
    assert ends(pid)

    assert tool.poll().power_mw == 220_000


def refuse(_pid: int, _signal: int) -> None:
    """Answer as the kernel does for a process of root's."""
    raise PermissionError


@pytest.mark.parametrize(
    ("lines", "what"),
    [
        ("while :; do echo xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx; done", "prints without end"),
        ("echo", "is not what ipmitool prints"),
        ("echo oops >&2; exit 3", "ended with status 3: oops"),
        ("exit 3", "ended with status 3\n"),
        ("kill -9 $$", "ended with status -9"),
        (
            "echo 'Could not open device at /dev/ipmi0: Permission denied'; exit 1",
            r'may not open .*\n.*\n.*"sudo", "-n"',
        ),
        ("echo 'sudo: a password is required'; exit 1", "may not run as root"),
    ],
    ids=["endless", "nothing", "words", "silent", "killed", "permission", "sudo"],
)
def test_a_program_that_fails_is_said_to_fail(script: Callable[[str], tuple[str, ...]], lines: str, what: str) -> None:
    """With its last words, or what they mean."""
    with pytest.raises(SourceRetry, match=what):
        poll(script(lines))


def test_a_program_that_is_gone_is_said_to_be_gone(tmp_path: Path) -> None:
    """It was there at the start."""
    with pytest.raises(SourceRetry, match="cannot be run: No such file"):
        poll((str(tmp_path / "ipmitool"),))


@pytest.mark.parametrize(
    "text",
    [
        PRINTED.replace("activated", "deactivated"),
        PRINTED.replace("activated", "reactivated"),
        PRINTED.replace("   220 Watts", "     0 Watts"),
        PRINTED.replace("   220 Watts", "    -1 Watts"),
        PRINTED.replace("   220 Watts", "   220 mWatts"),
        PRINTED.replace("   220 Watts", " 65535 Watts"),
        PRINTED.replace("Instantaneous", "Average"),
        PRINTED + PRINTED,
        PRINTED.replace("    Power reading state is:                   activated", ""),
    ],
)
def test_other_text_is_no_figure(text: str) -> None:
    """Two readings, no state, another unit: nothing is guessed."""
    with pytest.raises(NoFigure):
        figure_mw(text)


@given(st.text() | st.text(alphabet="0123456789 Watts\n:").map(lambda text: PRINTED.replace("220", text)))
def test_any_text_is_a_sane_power_or_none(text: str) -> None:
    """No other exception, and never zero."""
    with suppress(NoFigure):
        assert 0 < figure_mw(text) < 100_000_000


def found(tmp_path: Path, *, has_device: bool = False, **config: object) -> tuple[list[str], list[str], list[str]]:
    """Discover with such a configuration; return the devices, and what lacks say and would have done."""
    if has_device:
        (tmp_path / "class" / "ipmi" / "ipmi0").mkdir(parents=True)
    sources = discover(SourcesConfig(sysfs_root=str(tmp_path), **config))  # type: ignore[arg-type]
    lacks = sources.lacks
    assert {(lack.source, lack.component) for lack in lacks} <= {("ipmi", "overhead")}
    return [s.device.device for s in sources.sources], [lack.what for lack in lacks], [lack.fix for lack in lacks]


def test_nothing_is_run_that_the_user_did_not_allow(tmp_path: Path, script: Callable[[str], tuple[str, ...]]) -> None:
    """A machine with a BMC gets the setting that would allow it; one without gets no advice."""
    assert found(tmp_path) == ([], [], [])
    devices, lacks, fixes = found(tmp_path, has_device=True)
    with_redfish = found(tmp_path, redfish=(RedfishConfig(url="https://bmc"),))

    assert (devices, lacks) == ([], ["the BMC may know what the whole server draws, and is not asked"])
    assert fixes[0].endswith("sources.ipmi.enabled = true  # runs ipmitool every 10 s")
    assert with_redfish == ([], [], [])


def test_what_is_allowed_is_a_source_of_the_whole_server(script: Callable[[str], tuple[str, ...]]) -> None:
    """Sampled, and not run before it is read."""
    command = script("touch $0.ran")
    source = discover(SourcesConfig(ipmi=IpmiConfig(enabled=True, command=command))).sources[0]
    source.close()

    device = source.device
    assert (device.device, device.domain, device.component) == ("server", "server", Component.OVERHEAD)
    assert (device.provenance, device.source, source.name) == (Provenance.SAMPLED, "ipmi", "ipmi")
    assert not Path(f"{command[0]}.ran").exists()


@pytest.mark.parametrize(
    ("command", "what", "fix"),
    [
        ((), "nothing is no program", "apt-get install ipmitool"),
        (("/no/such/ipmitool",), "is no program", "apt-get install ipmitool"),
        (("sh", "ipmitool", "-P", PASSWORD), "every user of the machine can see it", "-f FILE"),
        (("sh", "/usr/bin/ipmitool", f"-P{PASSWORD}"), "every user of the machine can see it", "-f FILE"),
    ],
)
def test_a_command_that_cannot_be_used_is_a_lack(tmp_path: Path, command: tuple[str, ...], what: str, fix: str) -> None:
    """Before it is run, and without the password that stands in it."""
    devices, lacks, fixes = found(tmp_path, ipmi=IpmiConfig(enabled=True, command=command))

    assert devices == []
    assert what in lacks[0]
    assert fix in fixes[0]
    assert PASSWORD not in lacks[0] + fixes[0]


def test_sudo_may_have_options_of_its_own(tmp_path: Path) -> None:
    """``-P`` before ipmitool is another program's."""
    assert found(tmp_path, ipmi=IpmiConfig(enabled=True, command=("sh", "-P", "ipmitool")))[0] == ["server"]
