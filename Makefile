# make demo and make test set up all that they need in .venv and two node_modules under tests, and
# touch nothing else.
PYTHON ?= python3
BIN := .venv/bin
HELM := helm.sh/helm/v3/cmd/helm@v3.22.0
ACTIONLINT := github.com/rhysd/actionlint/cmd/actionlint@v1.7.12
# Without those that need servers built from Go modules, or a GPU: they have targets of their own.
ANYWHERE := --ignore=tests/cluster --ignore=tests/stores --ignore=tests/gpu

.PHONY: demo test test-fast test-cluster test-stores test-node test-gpu lint test-tools dashboards pictures alerts docs bench stack image lock clean

demo: .venv/serve
	$(BIN)/vgpumonitor demo

test: lint tests/web/node_modules tests/dashboards/render/node_modules
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/pytest $(ANYWHERE)

# All but the slow ones, on all cores: those that run the exporter, a browser or a Prometheus as a
# process, or take long for what they do.
test-fast: lint
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/pytest $(ANYWHERE) -m "not slow" -n auto --dist loadfile

# The chart and the exporter on a real API server. The first run builds it from its Go modules,
# minutes of work; needs Go and make test-tools.
test-cluster: .venv/dev
	tests/cluster/servers/build
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/pytest tests/cluster

# The rules and the dashboards' queries in Prometheus 3 and VictoriaMetrics. The first run builds
# them from their Go modules, minutes of work; needs Go and make test-tools.
test-stores: .venv/dev
	tests/stores/servers/build
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/pytest tests/stores -n 2 --dist loadfile

# The image and the chart on a real node, on a machine to spare: docs/release.md. Needs root.
test-node: .venv/dev
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m tests.cluster.node.run

# The exporter over a real driver, a GPU and processes on it. Needs root and an idle NVIDIA GPU.
test-gpu: .venv/dev
	$(BIN)/pytest tests/gpu

lint: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# What tests run and Python and Node.js don't bring: without it their tests skip and say so.
# Needs root, on Debian, and Go for helm and actionlint.
test-tools: .venv/serve
	apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
		gcc libc6-dev prometheus prometheus-alertmanager chromium tmux strace openssl \
		docker-compose iproute2 systemd
	test -x $(BIN)/helm || GOBIN="$(CURDIR)/$(BIN)" go install $(HELM)
	test -x $(BIN)/actionlint || GOBIN="$(CURDIR)/$(BIN)" go install $(ACTIONLINT)

dashboards: .venv/dev
	$(BIN)/python -m dashboards.generate

# Draws the dashboards over simulated nodes: the pictures in docs/dashboards. Needs test-tools, npm.
pictures: .venv/dev tests/dashboards/render/node_modules
	$(BIN)/python -m dashboards.pictures

alerts: .venv/dev
	$(BIN)/python -m alerts.generate

# What docs/ has from the code: tables, findings, XIDs.
docs: .venv/dev
	$(BIN)/python -m docs.generate

# Measures the exporter on this machine and prints a table.
bench: .venv/dev
	$(BIN)/python -m benchmarks

# Debian's Prometheus and Alertmanager over simulated nodes, with the configuration of the stack.
stack: .venv/serve
	PYTHON="$(CURDIR)/$(BIN)/python" deploy/compose/stack

# Builds the image without a container engine. Needs root, buildah and debootstrap.
image:
	deploy/image/build

# Locks the image's requirements again, after those in pyproject.toml changed.
lock: .venv/dev
	deploy/image/lock

.venv/serve: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade pip
	PYTHONWARNINGS=ignore $(BIN)/pip install --quiet --editable .
	touch $@

.venv/dev: .venv/serve
	PYTHONWARNINGS=ignore $(BIN)/pip install --quiet --editable '.[dev]'
	touch $@

%/node_modules: %/package-lock.json
	@if command -v npm >/dev/null || [ "$$CI" = true ]; then \
		npm --prefix $* ci --silent --no-audit --no-fund && touch $@; \
	else \
		echo "npm is not installed: the tests of the page's accessibility and of pictures skip"; \
	fi

clean:
	rm -rf .venv build tests/web/node_modules tests/dashboards/render/node_modules *.egg-info
