"""The image and the chart on a real node: `make test-node`."""
