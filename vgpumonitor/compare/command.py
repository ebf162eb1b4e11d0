"""The command ``vgpumonitor compare``."""

from __future__ import annotations

import asyncio
import shutil
import ssl
import sys

import click

from vgpumonitor.client_tls import tls_options
from vgpumonitor.compare import dcgm
from vgpumonitor.compare.causes import causes, layouts
from vgpumonitor.compare.exposition import CompareError, Exposition
from vgpumonitor.compare.fetch import scrapes, without_login
from vgpumonitor.compare.kinds import KINDS, Tolerance, Tolerances, parse_tolerance
from vgpumonitor.compare.matching import Comparison, compare
from vgpumonitor.compare.report import report
from vgpumonitor.options import Parsed, duration

#: How long a difference is looked at again, in seconds.
WAIT = 5.0

_KINDS = ", ".join(f"{kind.name} {kind.default} {kind.unit}".strip() for kind in KINDS)


@click.command()
@click.argument("url_a")
@click.argument("url_b")
@click.option(
    "--dcgm",
    "with_dcgm",
    is_flag=True,
    help="One of the two is a dcgm-exporter: compare its DCGM_FI_… with what they are here.",
)
@click.option(
    "--wait",
    type=duration(),
    show_default=f"{WAIT:g}; {dcgm.WAIT:g} with --dcgm, whose values may be 30 s old",
    help="How long to look again while there are differences: values that move agree if what "
    "both sides showed overlaps.",
)
@click.option(
    "--tolerance",
    "tolerances",
    type=Parsed("KIND=AMOUNT", parse_tolerance),
    multiple=True,
    help="By how much values of a kind may differ, such as bytes=1048576 or power=10%; "
    f"repeatable. The defaults: {_KINDS}.",
)
@click.option(
    "--strict", is_flag=True, help="Families that only one side has are a difference too."
)
@click.option(
    "--list",
    "every_series",
    is_flag=True,
    help="Show every series that differs, not three for each cause.",
)
@tls_options
def command(
    url_a: str,
    url_b: str,
    with_dcgm: bool,
    wait: float | None,
    tolerances: tuple[tuple[str, Tolerance], ...],
    strict: bool,
    every_series: bool,
    tls: ssl.SSLContext,
) -> None:
    """Compare what two exporters serve; the exit status is 1 if they differ.

    What both serve is compared; families that only one of them has are named. Differences are
    shown by what they have in common: a layout, a GPU, a pod, a container, an amount, a family.

    The exit status is 2 if one of them can't be asked, or they have nothing in common. URL_A and
    URL_B are addresses of exporters, or of files in Prometheus's text format.
    """
    kinds = dcgm.DcgmTolerances if with_dcgm else Tolerances
    if wait is None:
        wait = dcgm.WAIT if with_dcgm else WAIT
    looked = asyncio.run(_looked(url_a, url_b, tls, wait, kinds(dict(tolerances)), with_dcgm))
    comparison, last = looked
    for side, url in (("A", url_a), ("B", url_b)):
        click.echo(f"{side}: {without_login(url)}")
    click.echo()
    found = causes(comparison.series, layouts(*last))
    left_out = dcgm.not_compared(last) if with_dcgm else []
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 100
    for line in report(comparison, found, left_out, every_series, width):
        click.echo(line)
    if not comparison.shared:
        raise CompareError(
            "the two have no family in common: "
            "expected the same sets of families (serve --metrics), or --dcgm for a dcgm-exporter"
        )
    one_sided = comparison.only_a or comparison.only_b
    sys.exit(1 if comparison.differences or (strict and one_sided) else 0)


async def _looked(
    url_a: str,
    url_b: str,
    tls: ssl.SSLContext,
    wait: float,
    tolerances: Tolerances,
    with_dcgm: bool,
) -> tuple[Comparison, tuple[Exposition, Exposition]]:
    """Compares until there is no difference, or ``wait`` seconds are over; and the last scrape
    of both."""
    told = not sys.stderr.isatty()
    seen: list[tuple[Exposition, Exposition]] = []
    async for both in scrapes(url_a, url_b, tls, wait):
        seen.append(both)
        comparison = compare(dcgm.translated(seen) if with_dcgm else seen, tolerances)
        different = len(comparison.differences)
        if not different:
            break
        if not told:
            click.echo(f"{different} series differ, looking again for up to {wait:g} s", err=True)
            told = True
    return comparison, seen[-1]
