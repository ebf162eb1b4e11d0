"""What the dashboards' queries read of fifty nodes: nothing that their variables exclude."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from alerts.rules import PRICE
from testing.dashboards import GIVEN, chosen, filled, first, panels
from testing.history import FLAG
from testing.prometheus import Prometheus, prometheus
from testing.remote_write import write_constant
from testing.replicas import simulated, write_past
from tests.dashboards.test_json import DASHBOARDS, PANELS

pytestmark = pytest.mark.slow

NODES = 50
#: The variables that each query of a dashboard has to heed: one of a cluster's levels shows the
#: cluster, and within it what is chosen.
BOUNDED_BY = {
    "cluster": ("cluster",),
    "capacity": ("cluster",),
    "rightsizing": ("namespace",),
    "node": ("node", "instance"),
    "workload": ("namespace", "node"),
    "documented": ("cluster",),
}
#: Variables that have what is largest, and how many panels ask for it.
RANKED = [
    ("cluster", "idle_memory", 1),
    ("cluster", "idle_cores", 1),
    ("documented", "largest", 4),
    ("workload", "largest", 2),
    ("workload", "busiest", 3),
    ("workload", "waiting", 1),
]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    directory = tmp_path_factory.mktemp("prometheus")
    node = simulated("--gpus=8", "--containers=28", settle=5, looks=3)
    data = f"--storage.tsdb.path={directory / 'data'}"
    with prometheus(directory, "{}", data, FLAG) as made:
        now = int(time.time())
        write_past(made, node, NODES, range(now - 1200, now + 1, 30))
        yield made


@pytest.fixture(scope="module")
def variables(source: Prometheus) -> dict[str, dict[str, list[str]]]:
    return {
        name: chosen(dashboard, source, **GIVEN.get(name, {}))
        for name, dashboard in DASHBOARDS.items()
    }


def read(source: Prometheus, expr: str) -> int:
    """How many samples."""
    answer = source.get("/api/v1/query", query=expr, stats="all")
    samples: int = answer["stats"]["samples"]["totalQueryableSamples"]
    return samples


def test_the_data_are_those_of_many_nodes(source: Prometheus) -> None:
    assert source.query("count(node:vgpu_memory_used_bytes:sum)") == [({}, NODES)]
    assert read(source, "vgpu_memory_limit_bytes") > NODES * 20


@pytest.mark.parametrize(("name", "panel"), PANELS)
def test_queries_read_nothing_that_the_variables_exclude(
    source: Prometheus,
    variables: dict[str, dict[str, list[str]]],
    name: str,
    panel: dict[str, Any],
) -> None:
    """What a query reads for a node or a namespace that there is not is what it would read of all
    others."""
    opened = first(variables[name])
    nothing = {variable: "there-is-none" for variable in BOUNDED_BY[name] if variable in opened}
    for target in panel["targets"]:
        assert read(source, filled(target["expr"], {**opened, **nothing})) == 0, target["expr"]


@pytest.mark.parametrize(("name", "variable", "asking"), RANKED)
def test_panels_of_the_largest_read_no_others(
    source: Prometheus,
    variables: dict[str, dict[str, list[str]]],
    name: str,
    variable: str,
    asking: int,
) -> None:
    """The largest are found once for all panels, and not by each for itself."""
    opened = first(variables[name])
    assert 1 < len(variables[name][variable][1:]) <= 10
    expressions = [
        target["expr"]
        for panel in panels(DASHBOARDS[name])
        for target in panel["targets"]
        if f"${variable}" in target["expr"]
    ]
    assert len(expressions) == asking
    # What has just begun has not launched a kernel.
    assert any(read(source, filled(expr, opened)) for expr in expressions)
    for expr in expressions:
        assert read(source, filled(expr, {**opened, variable: "there-is-none"})) == 0, expr


def test_clocks_are_those_of_the_gpus_that_a_pod_uses(
    source: Prometheus, variables: dict[str, dict[str, list[str]]]
) -> None:
    """And not of all GPUs of its node."""
    pod = variables["workload"]["pod"][1]
    values = chosen(DASHBOARDS["workload"], source, **GIVEN["workload"], pod=pod)
    opened = first(values)
    [gpu] = values["gpu"][1:]
    [expr] = [
        target["expr"]
        for panel in panels(DASHBOARDS["workload"])
        for target in panel["targets"]
        if "$gpu" in target["expr"]
    ]
    reasons = len(source.query(f'vgpu_device_throttled{{device_uuid="{gpu}"}}'))
    assert reasons > 1
    of_pod = read(source, f'container:vgpu_memory_used_bytes:best{{pod="{pod}"}}')
    assert read(source, filled(expr, opened)) == reasons + of_pod


def test_a_model_may_have_a_price_of_its_own(
    source: Prometheus, variables: dict[str, dict[str, list[str]]]
) -> None:
    opened = first(variables["rightsizing"])
    [allocated, idle] = [
        filled(target["expr"], {**opened, "price": "2"})
        for panel in panels(DASHBOARDS["rightsizing"])
        for target in panel["targets"]
        if panel["title"] == "Cost"
    ]
    hours = "sum by (name) (sum_over_time(workload:vgpu_allocated_gpu_hours:sum5m[5m]))"
    of_models = {labels["name"]: value for labels, value in source.query(hours)}
    [(_, before)] = source.query(allocated)
    assert before == pytest.approx(2 * sum(of_models.values()))
    model, of_model = of_models.popitem()
    write_constant(source.url, [int(time.time())], [({"__name__": PRICE, "name": model}, 7.0)])
    [(_, after)] = source.query(allocated)
    assert after == pytest.approx(before + (7 - 2) * of_model)
    assert source.query(idle)
