"""A node that isn't there, for demonstrations, tests and benchmarks.

``plan`` decides which GPUs the node has and which pods share them, ``loads`` what each pod's
processes do over time. ``node`` steps through that time and writes what a real node would have:
region files (``container``), pods and their log directories (``pods``), processes (``procfs``) and
NVML's readings (``readings``, served by ``nvml``). The exporter reads it like any other node.
"""
