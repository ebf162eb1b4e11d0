# make demo and make test set up all that they need in .venv; nothing else is touched.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lint test-tools dashboards alerts bench clean

demo: .venv/serve
	$(BIN)/vgpumonitor demo

test: lint node_modules
	$(BIN)/pytest

lint: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Debian's packages that the tests run; without them their tests skip and say so. Needs root.
test-tools:
	apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
		gcc libc6-dev prometheus prometheus-alertmanager chromium tmux strace openssl

dashboards: .venv/dev
	$(BIN)/python -m dashboards.generate

alerts: .venv/dev
	$(BIN)/python -m alerts.generate

bench: .venv/dev
	$(BIN)/python -m benchmarks

.venv/serve: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --editable .
	touch $@

.venv/dev: .venv/serve
	$(BIN)/pip install --quiet --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv build node_modules *.egg-info
