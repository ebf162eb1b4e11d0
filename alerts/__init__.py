"""Recording rules and alerts for Prometheus as code, and what an operator does about each alert.

``rules`` and ``hardware`` declare them; ``make alerts`` (``generate``) writes the rule files, the
PrometheusRule object and the index of ``runbooks/``. ``tests/*.test.yaml`` are promtool's tests of
the rules, and every alert has a page in ``runbooks/``; the tests of this repository see that
neither is missing.
"""
