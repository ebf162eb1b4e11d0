"""Everything that is served over HTTP, on aiohttp.

``app`` has the routes: ``/metrics``, the health endpoints, the JSON API (``api``) and the page
(``page``). ``server`` listens, and bounds what a client can hold. ``config`` is the web
configuration file, kept up to date by ``reload``; ``tls`` and ``auth`` put its two halves into
effect. ``client`` is the other end: the TLS settings of a command that asks an exporter.
"""
