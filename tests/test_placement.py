from dataclasses import replace

from inferwatt.placement import Placement
from inferwatt.records import HOST, Component, Device, Engine, Place, Request, Sums, Usage

CPU = Device("cpu-0", component=Component.CPU)
GPU = Device("gpu-0")
PID = 7


def two_models() -> Placement:
    """One process of one server that serves two models."""
    placement = Placement()
    placement.add_device(CPU)
    placement.add_device(GPU)
    for name, model in (("s", "a"), ("s/b", "b")):
        placement.seen(Engine(name, model, server="s"), [PID])
    return placement


def shares(placement: Placement, device: str = HOST) -> dict[str, float]:
    """Return what each engine held while the process used half of the device."""
    return dict(placement.joined(Usage(0, 1, device, {PID: 0.5}, 0.0)).shares)


def test_a_process_of_two_models_is_each_one_s_by_its_work() -> None:
    """By tokens, else by inferences, else by running requests; an idle one holds it at nothing; alike when all idle."""
    placement = two_models()
    assert shares(placement) == {"s": 0.25, "s/b": 0.25}

    placement.worked(Sums(0, 1, "s", prompt_tokens=10, output_tokens=20))
    assert shares(placement) == {"s": 0.5, "s/b": 0.0}

    placement.worked(Sums(0, 1, "s/b", units={"inferences": 10}))
    assert shares(placement) == {"s": 0.375, "s/b": 0.125}

    placement.worked(Sums(1, 2, "s", 0, 0, 0, running=0))
    placement.worked(Sums(1, 2, "s/b", running=0))
    assert shares(placement) == {"s": 0.25, "s/b": 0.25}


def test_both_models_of_a_process_run_on_the_accelerator_that_it_holds() -> None:
    """The process holds the GPU: so do all of its models, busy or not."""
    placement = two_models()
    placement.worked(Sums(0, 1, "s", output_tokens=20))

    assert shares(placement, "gpu-0") == {"s": 0.5, "s/b": 0.0}
    assert placement.take_moved() == {"s", "s/b"}


def test_a_process_is_not_shared_between_servers() -> None:
    """A pid that another server is seen with is that server's alone: the number was taken over."""
    placement = two_models()
    placement.seen(Engine("t", "c", server="t"), [PID])

    assert shares(placement) == {"t": 0.5}


NVIDIA = [
    Device(f"gpu-{n}", vendor="NVIDIA", uuid=f"GPU-{n}{n}{n}{n}aaaa-0000", source="nvml") for n in (0, 1)
]  # as nvml.py names and numbers them


def placed_at(place: Place) -> Placement:
    """A machine with two GPUs, and a server at a place, whose processes no driver has listed yet."""
    placement = Placement()
    for device in (CPU, *NVIDIA):
        placement.add_device(device)
    placement.seen(Engine("s", "a", server="s"), [PID], place)
    return placement


def devices(placement: Placement) -> tuple[str, ...]:
    """Return the accelerators that the server is placed on."""
    return tuple(name for name in placement.placed(Engine("s", "a", server="s")).devices if name.startswith("gpu"))


def test_what_its_container_holds_alone_is_a_server_s() -> None:
    """By UUID, whole or cut short; and who uses it unseen is that server, since nobody else has been given it."""
    placement = placed_at(Place("n", "p", "c", holds=("gpu-1111AAAA",)))

    assert devices(placement) == ("gpu-1",)
    stranger = 1 << 22
    assert placement.joined(Usage(0, 1, "gpu-1", {stranger: 0.5}, 0.0)).shares == {"s": 0.5}
    assert placement.joined(Usage(0, 1, "gpu-0", {stranger: 0.5}, 0.0)).other_ratio == 0.5


def test_what_a_server_may_see_counts_until_a_driver_says_who_is_there() -> None:
    """A GPU without a list of processes is taken for who may see it; a stranger on it is never taken for the server."""
    placement = placed_at(Place(sees=("GPU-0000", "pci-bus-order:1", "GPU-9999", "GPU-")))
    assert devices(placement) == ("gpu-0", "gpu-1")

    assert placement.joined(Usage(0, 1, "gpu-0", {1 << 22: 0.5}, 0.0)).other_ratio == 0.5
    assert placement.take_moved() == {"s"}
    assert devices(placement) == ("gpu-1",)

    placement.joined(Usage(0, 1, "gpu-1", {PID: 0.5}, 0.0))
    assert devices(placement) == ("gpu-1",)


def test_a_request_has_the_names_of_where_it_was_served() -> None:
    """Of its engine's server; what the record says stands where the server's place is not known."""
    placement = placed_at(Place("chat", "vllm-0", "server"))
    served, elsewhere = Request("r", "s", pod="the-client-s"), Request("r", "t", pod="told")

    assert placement.stamped(served) == replace(served, namespace="chat", pod="vllm-0", container="server")
    assert placement.stamped(elsewhere) == elsewhere


def test_all_engines_of_a_server_are_where_it_is() -> None:
    """One that a plugin tells of, and the page did not: it is placed anew once the server's place is known."""
    placement = placed_at(Place())
    second = Engine("s/1", "b", server="s")
    placement.seen(second, [PID])
    placement.seen(Engine("s", "a", server="s"), [PID], Place("n", "p", "c", holds=("GPU-0000",)))

    assert placement.take_moved() == {"s/1"}
    assert "gpu-0" in placement.placed(second).devices
    assert placement.stamped(Request("r", "s/1")).pod == "p"


def test_what_passes_did_says_nothing_of_whose_work_it_was() -> None:
    """They are sums over all models of a server: its page tells whose, and what it told last stands."""
    placement = two_models()
    placement.worked(Sums(0, 1, "s", output_tokens=20))
    placement.worked(Sums(1, 2, "s", steps=3, decode_requests=9))

    assert shares(placement) == {"s": 0.5, "s/b": 0.0}
