"""The containers directory, where HAMi-core leaves a region file for each container.

``directory`` knows which containers have a directory, and gives all of them as one
``ContainersView``; ``container`` is one such directory: which file in it is the region, and
what it says. Both ask the disk at each read; ``sources.events`` only wakes them in between.
"""

from vgpumonitor.sources.containers.container import (
    ContainerReading,
    parse_name,
    raise_descriptor_limit,
)
from vgpumonitor.sources.containers.directory import ContainersDirectory, ContainersView

__all__ = [
    "ContainerReading",
    "ContainersDirectory",
    "ContainersView",
    "parse_name",
    "raise_descriptor_limit",
]
