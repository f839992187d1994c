from inferwatt.placement import Placement
from inferwatt.records import HOST, Component, Device, Engine, Sums, Usage

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
