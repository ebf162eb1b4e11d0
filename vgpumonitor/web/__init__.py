"""Everything that is served over HTTP, on aiohttp.

``app`` has the routes: ``/metrics``, the health endpoints, the JSON API (``api``) and the page
(``page``). ``server`` listens, and bounds what a client can hold. ``config`` is the web
configuration file and follows its changes; ``tls`` is its section of that name, and ``auth`` puts
the rest of it into effect.
"""
