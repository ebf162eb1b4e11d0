"""Rules and dashboards in Prometheus 3 and VictoriaMetrics: `make test-stores`."""
