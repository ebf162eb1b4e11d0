"""A driver that isn't there: what NVML tells of simulated GPUs, and a library that reads it."""
