"""``python -m dashboards.pictures``: draws the dashboards over simulated nodes, for README.

A real Prometheus scrapes ``demo``, evaluates the rules, and holds the past of the same nodes; the
panels are Grafana's own components (tests/dashboards/render).
"""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import click
import yaml

from testing.exporter import Exporter, free_ports, running
from testing.history import CONFIG, FLAG, spans, write_history
from testing.polling import eventually
from testing.prometheus import Prometheus, prometheus
from testing.rules import ALERTS
from testing.tools import MissingToolError, require

DIRECTORY = Path(__file__).parent
PICTURES = DIRECTORY.parent / "docs" / "dashboards"
RENDER = DIRECTORY.parent / "tests" / "dashboards" / "render"
#: Pictures of a dashboard that are not just of what it opens with, as draw.mjs takes them: of a
#: namespace that has something of everything; and what README begins with.
_PICTURES = {
    "workload": ("workload?var-namespace=team-nlp",),
    "cluster": ("cluster", "cluster?as=overview&top=1390"),
}


@dataclass(frozen=True)
class Panel:
    """One that was drawn: ``rows`` of a table, series otherwise; and what is wrong with it."""

    title: str
    shown: str
    type: str
    rows: int
    problems: list[str]


@dataclass(frozen=True)
class Picture:
    name: str
    errors: list[str]
    panels: list[Panel]


def _wait_until_it_goes_on(source: Prometheus, nodes: int, demo: Exporter, directory: Path) -> None:
    """Until it has something of each node that is newer than the past that was written, first of
    what is scraped and then of what is recorded: panels show both beside each other."""
    for series in ("vgpu_device_info", "node:vgpu_device_info:count"):
        fresh = f"timestamp({series}) >= {time.time():.0f}"
        query = f"count(count by (node) ({fresh})) == {nodes}"

        def goes_on(query: str = query) -> bool:
            if demo.process.poll() is not None:
                raise RuntimeError(f"the demo has ended:\n{demo.log}")
            told = [(target["health"], target["lastError"]) for target in source.targets()]
            assert source.query(query), (told, (directory / "prometheus.log").read_text()[-5000:])
            return True

        eventually(goes_on, 180)


@contextmanager
def simulated_cluster(nodes: int, days: float) -> Iterator[Prometheus]:
    """A Prometheus that scrapes ``nodes`` demo nodes, and has done so for ``days``."""
    require("prometheus")
    first = free_ports(nodes)
    targets = [f"127.0.0.1:{first + number}" for number in range(nodes)]
    scraping = {
        **yaml.safe_load(CONFIG),
        "global": {"scrape_interval": "5s", "scrape_timeout": "5s"},
        "rule_files": [f"{ALERTS}/*.rules.yaml"],
        "scrape_configs": [
            {
                "job_name": "vgpumonitor",
                "honor_labels": True,
                "static_configs": [{"targets": targets}],
            }
        ],
    }
    with tempfile.TemporaryDirectory() as name:
        data = f"--storage.tsdb.path={name}/data"
        with prometheus(Path(name), CONFIG, data, FLAG) as source:
            names = [f"gpu-node-{number + 1}" for number in range(nodes)]
            past = spans(int(time.time()), days)
            write_history(source, dict(zip(names, targets, strict=True)), past)
        with (
            running(
                "demo", f"--nodes={nodes}", "--node-name=gpu-node", "--metrics=all", port=first
            ) as demo,
            # Alerts go on from the past that was written, which was some minutes ago.
            prometheus(
                *(Path(name), yaml.safe_dump(scraping), data),
                *("--rules.alert.for-grace-period=0s", "--query.lookback-delta=15m"),
            ) as source,
        ):
            _wait_until_it_goes_on(source, nodes, demo, Path(name))
            yield source


def renderer(program: str) -> tuple[str, str]:
    """The command of a program in RENDER. Raises MissingToolError."""
    if not (RENDER / "node_modules").is_dir():
        raise MissingToolError(f"{RENDER}/node_modules is not installed")
    return require("node"), str(RENDER / program)


def draw(
    source: Prometheus, out: Path, names: Sequence[str], directory: Path = DIRECTORY
) -> list[Picture]:
    """NAME.png in ``out`` of each of ``names``: NAME.json in ``directory``. Raises
    MissingToolError."""
    done = subprocess.run(
        [
            *renderer("draw.mjs"),
            f"--dashboards={directory}",
            f"--prometheus={source.url}",
            f"--out={out}",
            f"--chromium={require('chromium')}",
            *(picture for name in names for picture in _PICTURES.get(name, (name,))),
        ],
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    found = [json.loads(line) for line in done.stdout.splitlines()]
    return [
        Picture(one["name"], one["errors"], [Panel(**panel) for panel in one["panels"]])
        for one in found
    ]


@click.command()
@click.option("--nodes", default=3, show_default=True)
@click.option("--days", default=7.0, show_default=True, help="Length of the nodes' past.")
@click.option("--out", default=PICTURES, type=click.Path(path_type=Path), show_default=True)
def main(nodes: int, days: float, out: Path) -> None:
    """Draw each dashboard over simulated nodes."""
    names = sorted(path.stem for path in DIRECTORY.glob("*.json"))
    with simulated_cluster(nodes, days) as source:
        for picture in draw(source, out, names):
            click.echo(f"{out / picture.name}.png: {len(picture.panels)} panels")
            for error in picture.errors:
                click.echo(f"  {error}")
            for panel in picture.panels:
                for problem in panel.problems:
                    click.echo(f"  {panel.shown}: {problem}")
                if not panel.rows:
                    click.echo(f"  {panel.shown}: empty")


if __name__ == "__main__":
    main()
