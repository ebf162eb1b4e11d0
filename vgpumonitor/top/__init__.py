"""``vgpumonitor top``: a node in the terminal, live, or once as plain text.

``fetch`` asks an exporter for its snapshot document, ``rows`` makes rows of that, ``view`` is what
the user chose to see of them, ``draw`` puts it on a screen, and ``terminal`` is that screen with
its keys.
"""
