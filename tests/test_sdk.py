"""What a user's code calls, in processes of their own where that matters."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import inferwatt
from inferwatt import endpoint, sdk
from inferwatt.records import UNKNOWN_TENANT, Outcome
from tests.engines.ends import Agent

SOURCE = str(Path(inferwatt.__file__).parent.parent)


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Agent]:
    """An agent where `inferwatt.request` looks for it."""
    path = str(tmp_path / "run" / "agent.sock")
    monkeypatch.setenv(endpoint.VARIABLE, path)
    sdk.flush()
    one = Agent(path)
    one.inbox.start()
    yield one
    sdk.flush()
    one.inbox.close()


def run(script: str) -> subprocess.CompletedProcess[str]:
    """Run a script of a user, with the socket of the test."""
    env = {**os.environ, "PYTHONPATH": SOURCE}
    return subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, timeout=60)


def ended(agent: Agent, count: int) -> list[tuple[str, Outcome | None, int]]:
    """Model, outcome and pid of the next `count` requests that end."""
    found: list[tuple[str, Outcome | None, int]] = []
    while len(found) < count:
        incoming = agent.next()
        if incoming.request.end_ns is not None:
            found.append((incoming.request.model, incoming.request.outcome, incoming.pid))
    return found


def test_one_call_is_one_record(agent: Agent) -> None:
    """The example of the front page: what the user said is what the agent reads."""
    with inferwatt.request(model="m", tenant="t", tags={"team": "blue"}, request_id="mine") as r:
        r.usage(prompt=12, output=100)
    record = agent.next().request
    while record.end_ns is None:
        record = agent.next().request

    assert (record.model, record.tenant, record.tags, record.response_id) == ("m", "t", {"team": "blue"}, "mine")
    assert (record.request, record.prompt_tokens, record.output_tokens) == (r.id, 12, 100)
    assert r.energy() is None
    assert sdk.counts() == {}


def test_a_call_that_says_nothing_is_a_record_too(agent: Agent) -> None:
    """No model, no tenant, no tokens: unknown, not invented."""
    with inferwatt.request():
        pass
    record = agent.next().request

    assert (record.model, record.tenant, record.output_tokens) == ("", UNKNOWN_TENANT, None)


def test_many_threads_share_one_producer(agent: Agent) -> None:
    """Requests of many threads at once have different names and all arrive, through one connection."""

    def call(number: int) -> str:
        with inferwatt.request(model=str(number)) as r:
            return r.id

    with ThreadPoolExecutor(16) as pool:
        names = set(pool.map(call, range(500)))

    assert len(names) == 500
    assert {model for model, _, _ in ended(agent, 500)} == {str(number) for number in range(500)}
    assert agent.inbox.health().connections == 1


def test_a_short_script_is_heard_to_its_end(agent: Agent) -> None:
    """A process that ends at once still hands in its records; what was open is aborted."""
    done = run("import inferwatt\nwith inferwatt.request(model='a'): pass\nr = inferwatt.request(model='b').start()")

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert sorted(ended(agent, 2))[0][:2] == ("a", Outcome.FINISHED)
    assert agent.records.empty()


def test_without_an_agent_a_script_runs_as_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line on stderr with what to do, and nothing else is different."""
    monkeypatch.setenv(endpoint.VARIABLE, str(tmp_path / "nobody.sock"))
    done = run(
        "import inferwatt, time\n"
        "for n in range(3):\n"
        "    with inferwatt.request() as r: r.usage(output=1)\n"
        "assert r.energy(wait_seconds=3600) is None\n"
        "print('done')"
    )

    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (0, "done\n", 1)
    assert "To meter them: inferwatt agent" in done.stderr


FORKING = """
import inferwatt, os, sys
with inferwatt.request(model='before'): pass
outer = inferwatt.request(model='parent').start()
children = []
for n in range(8):
    pid = os.fork()
    if pid == 0:
        with inferwatt.request(model='child'): pass
        outer.finish('failed')  # the parent's to end
        assert outer.energy(wait_seconds=3600) is None
        sys.exit(0)
    children.append(pid)
assert [os.waitpid(pid, 0)[1] for pid in children] == [0] * 8
outer.finish()
"""


def test_a_forked_child_is_a_producer_of_its_own(agent: Agent) -> None:
    """Children of a process in the middle of its work neither hang, nor end the parent's requests, nor share a name."""
    done = run(FORKING)
    found = ended(agent, 10)

    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(model for model, _, _ in found) == ["before", *["child"] * 8, "parent"]
    assert {outcome for _, outcome, _ in found} == {Outcome.FINISHED}
    assert len({pid for _, _, pid in found}) == 9


POOLING = """
import multiprocessing, inferwatt
def call(n):
    with inferwatt.request(model=str(n)): return n
with inferwatt.request(model='parent'): pass
worker = multiprocessing.get_context('fork').Process(target=call, args=(1,))
worker.start()
worker.join()
assert worker.exitcode == 0
"""


def test_a_worker_of_multiprocessing_is_heard_to_its_end(agent: Agent) -> None:
    """Such a worker ends without atexit; its last records arrive nevertheless."""
    done = run(POOLING)

    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(model for model, _, _ in ended(agent, 2)) == ["1", "parent"]


def test_a_stopped_agent_holds_no_script_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGSTOP on the agent: a script does its work and ends; the exit waits 0.2 s at most."""
    path = str(tmp_path / "run" / "agent.sock")
    monkeypatch.setenv(endpoint.VARIABLE, path)
    listening = "; ".join(
        [
            "import sys, time",
            "from inferwatt.clock import SystemClock",
            "from inferwatt.engines.inbox import Inbox",
            f"Inbox({path!r}, print, clock=SystemClock()).start()",
            "print('ready', flush=True)",
            "time.sleep(600)",
        ]
    )
    env = {**os.environ, "PYTHONPATH": SOURCE}
    with subprocess.Popen([sys.executable, "-c", listening], env=env, stdout=subprocess.PIPE, text=True) as stopped:
        assert stopped.stdout is not None
        assert stopped.stdout.readline() == "ready\n"
        stopped.send_signal(signal.SIGSTOP)
        done = run("import inferwatt\nfor n in range(10_000):\n    with inferwatt.request() as r: r.usage(output=1)")
        stopped.kill()

    assert (done.returncode, done.stderr) == (0, "")


def test_what_the_sdk_loads_is_small() -> None:
    """`import inferwatt` and the first look at `request` bring no asyncio, msgspec, numpy, json, socket or logging."""
    done = run("import inferwatt, sys; inferwatt.request; print(*sys.modules)")
    heavy = {"asyncio", "msgspec", "numpy", "json", "socket", "logging", "dataclasses", "inspect", "uuid", "random"}

    assert heavy & set(done.stdout.split()) == set()


def test_after_a_flush_the_next_request_begins_anew(agent: Agent) -> None:
    """Flushing by hand, before a suspend or in a test, ends nothing for good."""
    for name in ("first", "second"):
        with inferwatt.request(model=name):
            pass
        sdk.flush(5.0)

    assert [model for model, _, _ in ended(agent, 2)] == ["first", "second"]


def test_no_thread_to_be_had_is_no_trouble(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that may start no thread (a limit, its end) runs on without being metered."""

    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with inferwatt.request() as r:
        r.first_token()

    assert r.energy(wait_seconds=30.0) is None


def test_time_in_the_record_is_the_machines_monotonic_clock(agent: Agent) -> None:
    """What the agent reads can be compared with its own clock."""
    before_ns = time.monotonic_ns()
    with inferwatt.request():
        pass
    record = agent.next().request

    assert before_ns <= record.arrival_ns <= time.monotonic_ns()
