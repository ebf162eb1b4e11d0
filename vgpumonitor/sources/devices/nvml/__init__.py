"""NVIDIA's devices, through NVML: one call (``client``), what is asked of a device (``cards``,
``processes``), and the source that asks without holding anybody up."""

from vgpumonitor.sources.devices.nvml.source import NvmlSource

__all__ = ["NvmlSource"]
