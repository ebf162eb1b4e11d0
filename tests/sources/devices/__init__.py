"""NVML under the real pynvml, with a simulated driver."""
