"""Grafana dashboards as code: ``NAME.dashboard.py`` builds one, ``make dashboards`` writes its
``NAME.json``, and only the JSON is deployed.

``panels`` has what they share (variables, panels, the grid); ``generate`` writes the files. A
query reads families of the sets ``vgpu`` or ``documented``, or recorded series of
``alerts/rules.py``: the tests check that every name exists.
"""
