"""When and where closed ticks are corrected for work that was told too late. Pure."""

from collections.abc import Iterator, Mapping

from inferwatt.attribution.accounts import TickEnergy
from inferwatt.attribution.engine import EngineState
from inferwatt.attribution.latecomers import Latecomers
from inferwatt.attribution.sharing import Sharing
from inferwatt.attribution.slots import SlotTable
from inferwatt.attribution.states import DeviceState


def correct(
    engine: EngineState, devices: Mapping[str, DeviceState], sharing: Sharing, slots: SlotTable
) -> Iterator[TickEnergy]:
    """Move to an engine's late work what it used of its devices' closed ticks, and return what was moved."""
    for name in engine.engine.devices:
        state = devices.get(name)
        if state is None:
            continue
        for moved in state.history.correct(state.slot_class, state.power, engine, sharing, slots):
            state.totals.add(moved)
            yield moved
    engine.late = Latecomers()
