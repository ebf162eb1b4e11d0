"""From the snapshot to what Prometheus reads.

A family is declared once, as data (``family``), in the module of its set: ``documented`` and
``hami`` are other people's names, ``vgpu`` is ours, ``exporter`` is about the exporter itself.
``values`` has what several sets tell, ``sets`` which are served. ``exposition`` makes the text:
``container_text`` that of families with samples for each container, which is most of it.
docs/metrics.md is generated from the declarations.
"""
