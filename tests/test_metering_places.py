"""On which devices servers are placed: by the host, by name, and by whose processes hold an accelerator."""

from inferwatt.records import Activity, Component, Device, Engine, Place, Request, Usage
from tests.test_metering import CPU, GPU, SECOND, Recorder, build


def test_servers_are_on_the_hosts_own_parts_and_on_the_accelerators_that_they_name() -> None:
    """A server runs on CPU and DRAM, also on those found later; one that names a GPU runs on that too."""
    metering = build()
    metering.engine_seen(Engine("vllm:1", "n", ("gpu-0",), server="vllm:1"), None, [5], 0)

    for device in (GPU, Device("dram", component=Component.DRAM), CPU):
        metering.add_device(device)

    assert {name: engine.devices for name, engine in metering.engines.items()} == {
        "llamacpp:1": ("cpu", "dram"),
        "vllm:1": ("cpu", "dram", "gpu-0"),
    }


def test_a_server_is_on_the_accelerator_that_its_processes_hold() -> None:
    """The list of a GPU's processes places it there, even while they do nothing; other processes place nobody."""
    metering = build()
    metering.add_device(GPU)
    metering.feed(Usage(0, SECOND, "gpu-0", {7: 0.0, 4242: 0.5}, 0.0))

    assert metering.engines["llamacpp:1"].devices == ("cpu", "gpu-0")


def test_an_accelerators_strangers_are_of_the_engine_that_names_it() -> None:
    """In a container processes have other numbers: the engine that is said to run on a GPU has what is used of it."""
    recorder = Recorder()
    metering = build(recorder=recorder)
    metering.add_device(GPU)
    metering.engine_seen(Engine("vllm:1", "n", ("gpu-0",), server="vllm:1"), None, [5], 0)
    for pid in (4242, 7):
        metering.feed(Usage(0, SECOND, "gpu-0", {pid: 0.5}, 0.0))

    shares = [record.shares for record in recorder.records if isinstance(record, Activity)]
    assert shares == [{"vllm:1": 0.5}, {"vllm:1": 0.0, "llamacpp:1": 0.5}]


def test_the_pod_of_a_server_stands_on_its_requests_and_on_what_is_told_of_it() -> None:
    """On the settled request, which goes into the ledger, and on the server's info; the recorder has it too."""
    recorder = Recorder()
    metering = build(recorder=recorder)
    metering.engine_seen(
        Engine("vllm:1", "n", server="vllm:1", kind="vllm"), None, [5], 0, "0.32", Place("chat", "vllm-0", "server")
    )
    metering.engine_seen(Engine("vllm:1", "n", server="vllm:1", kind="vllm"), None, [5], 1, "0.32")
    assert metering.request(Request("r", "vllm:1", arrival_ns=0, end_ns=SECOND, output_tokens=1))
    metering.finish()
    settled = metering.take().requests

    assert [request.pod for request, _ in settled] == ["vllm-0"]
    assert [record.container for record in recorder.records if isinstance(record, Request)] == ["server"]
    infos = [labels for labels in metering.books.values["inferwatt_server_info"] if labels[0] == "vllm:1"]
    assert infos == [("vllm:1", "vllm", "0.32", "chat", "vllm-0", "server")]
