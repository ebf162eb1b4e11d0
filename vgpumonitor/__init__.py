"""Monitoring for GPUs that containers share through HAMi-core."""

__version__ = "0.1.0"
