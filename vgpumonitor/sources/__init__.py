"""What the exporter knows of the node, one source for each outside thing.

``containers`` reads HAMi-core's region files, ``pods`` the pods, ``devices`` the GPUs, and
``processes`` the host's processes; ``events`` is how sources that read directories are woken.
Each keeps its own state current, fails by itself, and says whether it is up. No source knows
another, or what a metric is: the snapshot joins them.
"""
