"""What tests and benchmarks share, so that neither imports the other.

- ``exporter``: the real exporter as a process; ``prometheus``: a real Prometheus that scrapes it
- ``apiserver``: a Kubernetes API server that fails as real ones do
- ``nvml``: a simulated libnvidia-ml.so.1, compiled from C, under the real pynvml
- ``values``, ``pods``, ``region_files``: values and files by hand
- ``churn``, ``resources``, ``polling``, ``tools``: containers that come and go, what a process
  holds, waiting, and programs that may be missing
- ``client_library``: prometheus-client's rendering of a snapshot, to compare ours with
"""
