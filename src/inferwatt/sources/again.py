"""The search for devices that were lost: only those sources are asked again that lost one.

The sampler waits for this search, so a network or a BMC whose devices are all well is left alone; and a lost GPU is not
taken for found because another source sees it too.
"""

from collections.abc import Callable

import msgspec

from inferwatt.sources import Found, Source, SourcesConfig
from inferwatt.sources.health import SamplerHealth


def searching_again(
    find: Callable[[SourcesConfig], Found],
    settings: SourcesConfig,
    asked: tuple[str, ...],
    health: Callable[[], SamplerHealth],
) -> Callable[[], tuple[Source, ...]]:
    """Return what looks for lost devices.

    Args:
        find: looks for sources.
        settings: where it looks.
        asked: the sources that were asked at the start.
        health: how each device is now.
    """

    def search() -> tuple[Source, ...]:
        lost = {device.source for device in health().sources if not device.up}
        well = tuple(name for name in asked if name not in lost)
        return find(msgspec.structs.replace(settings, disabled=(*settings.disabled, *well))).sources

    return search
