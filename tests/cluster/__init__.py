"""The chart and the exporter on a real kube-apiserver: `make test-cluster`."""
