"""The containers directory, where HAMi-core leaves a region file for each container."""

from vgpumonitor.sources.containers.directory import (
    ContainerReading,
    ContainersDirectory,
    ContainersView,
)

__all__ = ["ContainerReading", "ContainersDirectory", "ContainersView"]
