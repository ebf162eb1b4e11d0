"""The real exporter over a real driver, GPU and processes: ``make test-gpu``, on a machine that has
them. CI has none, and doesn't run these."""
