"""Monitoring for GPUs that containers share through HAMi-core.

``serve`` builds an exporter from the ``settings``. Its ``sources`` each know one outside thing and
keep their own state current: the containers directory with HAMi-core's region files (decoded by
``region``), pods, devices, and the host's processes. When someone asks, ``scrape`` has
``snapshot`` join what the sources know into one frozen ``NodeSnapshot``. All the rest only reads
that: ``metrics`` makes the text of /metrics from it, ``web`` serves the text, the snapshot as JSON
and the page, and ``top`` draws the JSON in a terminal. The ``controllers``, which are off unless
asked for, read the same sources and write to the host. ``simulate`` makes a node to try all this
on. ``cli`` has the commands, each of which stands where its code is.
"""

__version__ = "0.1.0"
