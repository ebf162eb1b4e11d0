// No Go code: the module brings the Prometheus operator's CustomResourceDefinitions.
module crds

go 1.26.0

require github.com/prometheus-operator/prometheus-operator v0.85.0
