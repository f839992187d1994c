"""`inferwatt simulate --live`: a world without end before a live agent, so that its screens can be tried without a GPU.

The simulated device is a folder that the source `simulated` reads; the simulated engine brings its steps and requests
on the agent's socket, in the words of the plugin inside vLLM. The agent is one of its own, a child process with no
other source, unless one is to be fed that runs already.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path

import msgspec

from inferwatt import endpoint
from inferwatt.engines.vllm_courier import Courier, encode
from inferwatt.errors import Unavailable
from inferwatt.outbox import Outbox
from inferwatt.recording_lines import known_fields
from inferwatt.records import Request, Step
from inferwatt.simulate.loads import LOADS
from inferwatt.simulate.sequence import SECOND_NS, Sequence
from inferwatt.simulate.stream import Happened, Stream
from inferwatt.simulate.witness import told_arrival, told_request
from inferwatt.simulate.world import CARD, World
from inferwatt.sources import GROUP
from inferwatt.sources.simulated import DEVICE, STATE, State
from inferwatt.wire_steps import StepRow, steps_message

_STEPS_PER_FRAME = 256
_END_SECONDS = 5.0
_SAY = "inferwatt simulate: simulated joules, of no hardware; Ctrl-C ends it\n"


@dataclass(frozen=True, slots=True)
class Live:
    """What `--live` was asked for; `folder` is where the device is written for an agent that runs already."""

    load: str
    seed: int
    listen: str
    folder: Path | None = None
    seconds: float | None = None


class SimulatedDevice:
    """The folder of the device: written whole, each time, beside its place."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / CARD.device
        self.folder.mkdir(parents=True, exist_ok=True)
        self._write(DEVICE, msgspec.json.encode(known_fields(CARD)))

    def show(self, joules: float, busy_ratio: float) -> None:
        """Show the counter in whole millijoules, and how busy this process keeps the device."""
        self._write(STATE, msgspec.json.encode(State(int(joules * 1000) * 1000, os.getpid(), busy_ratio)))

    def remove(self) -> None:
        """Take the device away."""
        for name in (DEVICE, STATE):
            (self.folder / name).unlink(missing_ok=True)
        self.folder.rmdir()

    def _write(self, name: str, data: bytes) -> None:
        beside = self.folder / f"{name}.new"
        beside.write_bytes(data)
        beside.replace(self.folder / name)


class Told:
    """What the courier brings: steps, and requests as they begin and end."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._new: deque[Happened] = deque()
        self._open: dict[int, Sequence] = {}

    def add(self, happened: Happened) -> None:
        """Take what happened; another thread brings it."""
        self._new.append(happened)

    def collect(self, outbox: Outbox) -> None:
        """Put what is new into the outbox."""
        while self._new:
            happened = self._new.popleft()
            self._open |= {seq.number: seq for seq in happened.begun}
            outbox.add([told_arrival(seq, "", self._model) for seq in happened.begun])
            for start in range(0, len(happened.steps), _STEPS_PER_FRAME):
                rows = [_row(step) for step in happened.steps[start : start + _STEPS_PER_FRAME]]
                outbox.put(len(rows), lambda seq, rows=rows: encode(steps_message(seq, rows)))  # type: ignore[misc]
            outbox.add([self._ended(seq) for seq in happened.ended])

    def again(self, outbox: Outbox) -> None:
        """Tell an agent that has just started who is there."""
        outbox.add([told_arrival(seq, "", self._model) for seq in self._open.values()])

    def _ended(self, seq: Sequence) -> Request:
        self._open.pop(seq.number, None)
        return told_request(seq, "", self._model)


def _row(step: Step) -> StepRow:
    names, new, context, phases = (list(column) for column in zip(*step.members, strict=True))
    prefill = [place for place, phase in enumerate(phases) if phase == "prefill"]
    return StepRow(step.t0_ns, step.t1_ns, names, new, context, prefill)


def run(live: Live) -> int:
    """Simulate until SIGINT, SIGTERM or the end of the time; return the exit status.

    Raises:
        Unavailable: the agent does not start.
    """
    ending = threading.Event()
    before = {number: signal.signal(number, lambda *_: ending.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with ExitStack() as stack:
            folder = live.folder or Path(stack.enter_context(endpoint.temporary_folder("inferwatt-")))
            world = World(LOADS[live.load], seed=live.seed)
            device = SimulatedDevice(folder)
            stack.callback(device.remove)
            device.show(0.0, 0.0)
            path: Callable[[], str] = endpoint.socket_path
            if live.folder is None:
                stack.enter_context(_own_agent(folder, live.listen))
                path = (folder / endpoint.NAME).as_posix
            told = Told(world.shape.model)
            courier = Courier(told, _about(world), path)
            courier.start()
            stack.callback(courier.close)
            sys.stderr.write(_SAY)
            _go_on(world, device, told, ending, live.seconds)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return 0


def _go_on(world: World, device: SimulatedDevice, told: Told, ending: threading.Event, seconds: float | None) -> None:
    """Let the world go on, tick by tick of its counter."""
    start_ns = time.monotonic_ns()
    stream = Stream(world, start_ns)
    tick_ns = round(world.meter.tick_seconds * SECOND_NS)
    due_ns = start_ns
    while seconds is None or due_ns < start_ns + seconds * SECOND_NS:
        due_ns += tick_ns
        if ending.wait(max(due_ns - time.monotonic_ns(), 0) / SECOND_NS):
            return
        told.add(stream.look(due_ns))
        device.show(stream.joules(due_ns), stream.busy_ratio(due_ns - tick_ns, due_ns))
        stream.forget(due_ns)


def _about(world: World) -> dict[str, object]:
    """Return what the engine says of itself: its model and shape, and that it is none of vLLM's."""
    shape = {name: value for name, value in known_fields(world.shape).items() if name != "model"}
    return {"role": "engine", "model": world.shape.model, "shape": shape, "version": "simulated"}


@contextmanager
def _own_agent(folder: Path, listen: str) -> Iterator[None]:
    """Run an agent that has no source but the simulated one, and looks for no server."""
    others = sorted({entry.name for entry in entry_points(group=GROUP)} - {"simulated"})
    config = folder / "inferwatt.toml"
    quoted = ", ".join(f'"{name}"' for name in others)
    config.write_text(
        f'[sources]\nsimulated = "{folder.as_posix()}"\ndisabled = [{quoted}]\n\n[engines]\ndiscover = false\n'
    )
    command = [sys.executable, "-m", "inferwatt", "agent", "--config", str(config), "--listen", listen]
    command += ["--socket", str(folder / endpoint.NAME), "--state-dir", str(folder / "state")]
    agent = subprocess.Popen(command, stdin=subprocess.DEVNULL, process_group=0)
    try:
        _wait_for(agent, folder / endpoint.NAME)
        yield
    finally:
        agent.terminate()
        try:
            agent.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            agent.kill()
            agent.wait()


def _wait_for(agent: "subprocess.Popen[bytes]", socket: Path) -> None:
    """Wait until the agent listens on its socket."""
    while not socket.exists():
        if agent.poll() is not None:
            raise Unavailable(
                f"the agent ended with status {agent.returncode}", where=socket, fix="see what it said above"
            )
        time.sleep(0.05)
