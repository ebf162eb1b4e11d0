"""The command ``vgpumonitor top``."""

from __future__ import annotations

import ssl
import sys

import click

from vgpumonitor.client_tls import tls_options
from vgpumonitor.options import duration
from vgpumonitor.top.draw import once as text_of
from vgpumonitor.top.fetch import FetchError, from_url
from vgpumonitor.top.rows import SORTS
from vgpumonitor.top.view import View


@click.command()
@click.argument("url", default="http://localhost:9394")
@click.option(
    "--sort",
    type=click.Choice(tuple(SORTS)),
    default=View().sort,
    show_default=True,
    help="Order of the rows.",
)
@click.option("--filter", "terms", default="", help="Show only rows that contain these words.")
@click.option(
    "--interval",
    type=duration(0.1),
    default="2",
    show_default=True,
    help="How long to wait before asking again.",
)
@click.option("--once", is_flag=True, help="Print the node once, as plain text.")
@tls_options
def command(
    url: str, sort: str, terms: str, interval: float, once: bool, tls: ssl.SSLContext
) -> None:
    """Show a node in the terminal, from the exporter at URL.

    A dash stands for what is unknown.
    """
    view = View(sort=sort, filter=terms)
    try:
        fetch = from_url(url, tls)
        if once or not (sys.stdin.isatty() and sys.stdout.isatty()):
            sys.stdout.write(text_of(fetch(), view))
            return
    except FetchError as error:
        raise click.ClickException(str(error)) from error
    # Imported only here: it needs a Unix terminal, and plain text doesn't.
    from vgpumonitor.top.terminal import Screen

    Screen(fetch, view, interval).run()
