"""``vgpumonitor compare``: which series and values differ between two exporters' /metrics."""

from __future__ import annotations

import asyncio
import json
import math
import re
import ssl
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import aiohttp
import click
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console
from rich.table import Table
from rich.text import Text

from vgpumonitor.client_tls import tls_options

#: Prefixes of what exporters say about themselves.
IGNORED = ("go_", "process_", "python_")

#: Labels that hold values: they change with every allocation, and identify no series.
VALUE_LABELS = {
    "Device_memory_desc_of_container": frozenset(("context", "module", "data", "offset"))
}

#: Seconds that a whole /metrics may take.
TIMEOUT = 30.0

Labels = tuple[tuple[str, str], ...]
Series = tuple[Labels, float]


class CompareError(click.ClickException):
    """A /metrics that can't be fetched or parsed; the message names its URL."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class Tolerance:
    """Values are alike within ``relative`` (of the larger) or ``absolute`` of each other."""

    relative: float = 0.05
    absolute: float = 0.0

    def alike(self, a: float, b: float) -> bool:
        both_nan = math.isnan(a) and math.isnan(b)
        return both_nan or math.isclose(a, b, rel_tol=self.relative, abs_tol=self.absolute)


@dataclass(frozen=True, slots=True)
class Difference:
    """A series that both sides have, with different values."""

    labels: Labels
    a: float
    b: float


@dataclass(frozen=True, slots=True)
class FamilyComparison:
    """One metric name on both sides. Series are matched by the labels that both sides' series
    have; ``labels_only_a`` and ``labels_only_b`` are the names of the others."""

    name: str
    labels_only_a: tuple[str, ...]
    labels_only_b: tuple[str, ...]
    only_a: tuple[Series, ...]
    only_b: tuple[Series, ...]
    differing: tuple[Difference, ...]
    alike: int

    @property
    def equal(self) -> bool:
        return not (self.only_a or self.only_b or self.differing)


@dataclass(frozen=True, slots=True)
class Comparison:
    """The metric names of both sides, sorted, without those about the exporters themselves."""

    families: tuple[FamilyComparison, ...]

    @property
    def equal(self) -> bool:
        return all(family.equal for family in self.families)


@click.command()
@click.argument("url_a")
@click.argument("url_b")
@click.option(
    "--tolerance",
    type=click.FloatRange(min=0),
    default=Tolerance().relative,
    show_default=True,
    help="Part of the larger value by which two values may differ.",
)
@click.option(
    "--absolute-tolerance",
    type=click.FloatRange(min=0),
    default=Tolerance().absolute,
    show_default=True,
    help="Difference that is allowed whatever the values.",
)
@tls_options
def command(
    url_a: str, url_b: str, tolerance: float, absolute_tolerance: float, tls: ssl.SSLContext
) -> None:
    """Compare what two exporters serve; the exit status is 1 if they differ.

    It is 2 if one of them can't be asked. URL_A and URL_B are addresses of exporters, or of files
    in Prometheus's text format.
    """
    comparison = compare(url_a, url_b, Tolerance(tolerance, absolute_tolerance), tls)
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 1000  # One line for each series, for grep.
    for side, url in (("A", url_a), ("B", url_b)):
        console.print(Text(f"{side}: {_without_login(url)}"), soft_wrap=True)
    console.print(table(comparison))
    console.print(summary(comparison))
    sys.exit(0 if comparison.equal else 1)


def compare(url_a: str, url_b: str, tolerance: Tolerance, tls: ssl.SSLContext) -> Comparison:
    """Fetches both at the same time and compares them. Raises CompareError."""
    text_a, text_b = asyncio.run(_fetch_both(url_a, url_b, tls))
    return compare_families(
        families(text_a, _without_login(url_a)), families(text_b, _without_login(url_b)), tolerance
    )


async def _fetch_both(url_a: str, url_b: str, tls: ssl.SSLContext) -> tuple[str, str]:
    timeout = aiohttp.ClientTimeout(total=TIMEOUT)
    headers = {"Accept": "text/plain;version=0.0.4"}
    connector = aiohttp.TCPConnector(ssl=tls)
    async with aiohttp.ClientSession(
        connector=connector, timeout=timeout, headers=headers
    ) as session:
        a, b = await asyncio.gather(_fetch(session, url_a), _fetch(session, url_b))
    return a, b


async def _fetch(session: aiohttp.ClientSession, url: str) -> str:
    shown = _without_login(url)
    try:
        async with session.get(_metrics_at(url)) as response:
            if response.status != 200:
                raise CompareError(
                    f"{shown}: status {response.status} {response.reason}, expected 200"
                )
            if response.content_type != "text/plain":
                raise CompareError(
                    f"{shown}: content type {response.content_type}, expected text/plain"
                )
            return await response.text("utf-8")
    except TimeoutError as error:
        raise CompareError(f"{shown}: no complete answer within {TIMEOUT:g} s") from error
    except (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError) as error:
        raise CompareError(
            f"{shown}: invalid URL: expected http:// or https:// and a host"
        ) from error
    except (aiohttp.ClientError, UnicodeDecodeError) as error:
        raise CompareError(f"{shown}: {error}") from error


def _metrics_at(url: str) -> str:
    """An exporter's address stands for its /metrics; any other path is taken as it is."""
    return re.sub(r"^(https?://[^/?#]+)/?(?=\?|$)", r"\1/metrics", url)


def _without_login(url: str) -> str:
    return re.sub(r"(?<=//)[^/@]*@", "", url)


def families(text: str, url: str) -> dict[str, list[Series]]:
    """The series of a text exposition by metric name. Raises CompareError, naming ``url``."""
    by_name: defaultdict[str, list[Series]] = defaultdict(list)
    try:
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if not sample.name.startswith(IGNORED):
                    labels = tuple(sorted(sample.labels.items()))
                    by_name[sample.name].append((labels, sample.value))
    except ValueError as error:
        raise CompareError(f"{url}: invalid text format: {error}") from error
    return dict(by_name)


def compare_families(
    a: Mapping[str, Iterable[Series]], b: Mapping[str, Iterable[Series]], tolerance: Tolerance
) -> Comparison:
    """Compares the series of two sides, given by metric name."""
    return Comparison(
        tuple(
            _compare_family(name, tuple(a.get(name, ())), tuple(b.get(name, ())), tolerance)
            for name in sorted(a.keys() | b.keys())
        )
    )


def _compare_family(
    name: str, a: tuple[Series, ...], b: tuple[Series, ...], tolerance: Tolerance
) -> FamilyComparison:
    names_a, names_b = _label_names(a), _label_names(b)
    if not a or not b:
        return FamilyComparison(name, (), (), tuple(sorted(a)), tuple(sorted(b)), (), 0)
    matched_by = (names_a & names_b) - VALUE_LABELS.get(name, frozenset())
    groups_a, groups_b = _grouped(a, matched_by), _grouped(b, matched_by)
    only_a: list[Series] = []
    only_b: list[Series] = []
    differing: list[Difference] = []
    alike = 0
    for labels in sorted(groups_a.keys() | groups_b.keys()):
        rest_a, rest_b = groups_a.get(labels, []), groups_b.get(labels, [])
        before = len(rest_a)
        rest_a, rest_b = _without_alike(rest_a, rest_b, tolerance)
        alike += before - len(rest_a)
        pairs = min(len(rest_a), len(rest_b))
        differing += (
            Difference(labels, value_a[1], value_b[1])
            for value_a, value_b in zip(rest_a, rest_b, strict=False)
        )
        only_a += rest_a[pairs:]
        only_b += rest_b[pairs:]
    return FamilyComparison(
        name,
        tuple(sorted(names_a - names_b)),
        tuple(sorted(names_b - names_a)),
        tuple(only_a),
        tuple(only_b),
        tuple(differing),
        alike,
    )


def _label_names(series: Iterable[Series]) -> frozenset[str]:
    return frozenset(name for labels, _ in series for name, _ in labels)


def _grouped(series: Iterable[Series], names: frozenset[str]) -> dict[Labels, list[Series]]:
    """The series by their labels ``names``, each group sorted by value. An empty label counts as
    absent."""
    groups: defaultdict[Labels, list[Series]] = defaultdict(list)
    for one in sorted(series, key=lambda one: (one[1], one[0])):
        key = tuple((name, value) for name, value in one[0] if name in names and value)
        groups[key].append(one)
    return groups


def _without_alike(
    a: list[Series], b: list[Series], tolerance: Tolerance
) -> tuple[list[Series], list[Series]]:
    """What is left of each side, sorted by value, once alike values are paired off: several series
    can share the labels that they are matched by."""
    left_a: list[Series] = []
    left_b: list[Series] = []
    a, b = a[::-1], b[::-1]
    while a and b:
        if tolerance.alike(a[-1][1], b[-1][1]):
            a.pop()
            b.pop()
        elif a[-1][1] < b[-1][1]:
            left_a.append(a.pop())
        else:
            left_b.append(b.pop())
    return left_a + a[::-1], left_b + b[::-1]


def table(comparison: Comparison) -> Table:
    """The differences as a table: for each metric name the labels that only one side has, then
    its series. A name that one side lacks entirely is one line."""
    result = Table("metric")
    result.add_column("series", overflow="fold")
    result.add_column("A", justify="right")
    result.add_column("B", justify="right")
    for family in comparison.families:
        for row in _rows(family):
            result.add_row(*map(Text, row))
    return result


def summary(comparison: Comparison) -> str:
    """How many series are alike and how many are not, in one line."""
    alike = sum(family.alike for family in comparison.families)
    different = sum(len(family.differing) for family in comparison.families)
    only_a = sum(len(family.only_a) for family in comparison.families)
    only_b = sum(len(family.only_b) for family in comparison.families)
    return f"{alike} series alike, {different} different, {only_a} only in A, {only_b} only in B"


def _rows(family: FamilyComparison) -> Iterable[tuple[str, str, str, str]]:
    common = family.alike or family.differing or (family.only_a and family.only_b)
    if not common:
        count = f"{len(family.only_a or family.only_b)} series"
        yield (
            (family.name, "", count, "missing")
            if family.only_a
            else (family.name, "", "missing", count)
        )
        return
    for names, side in ((family.labels_only_a, "A"), (family.labels_only_b, "B")):
        if names:
            yield (family.name, f"labels only in {side}: {', '.join(names)}", "", "")
    for difference in family.differing:
        a, b = _number(difference.a), _number(difference.b)
        yield (family.name, _label_text(difference.labels), a, b)
    for labels, value in family.only_a:
        yield (family.name, _label_text(labels), _number(value), "missing")
    for labels, value in family.only_b:
        yield (family.name, _label_text(labels), "missing", _number(value))


def _number(value: float) -> str:
    return f"{value:.15g}"


def _label_text(labels: Labels) -> str:
    # JSON's quoting also escapes control characters, which a hostile label may have.
    return "{" + ",".join(f"{name}={json.dumps(value)}" for name, value in labels) + "}"
