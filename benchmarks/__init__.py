"""What the exporter costs, measured on your machine: ``python -m benchmarks [PART…]``.

Each part is a module with ``rows()``, which starts the real exporter over a simulated node and
returns rows of the table in docs/performance.md. ``series`` and ``rules`` are commands of their
own, for what a whole cluster costs (docs/scale.md).
"""
