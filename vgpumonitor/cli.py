"""The command line: each command stands where its code is, and is loaded when it is called."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import click

from vgpumonitor import __version__


class LazyCommand(click.Command):
    """The click command ``command`` of a module, which is imported when it is called. What the
    list of commands says about it is known without that."""

    def __init__(self, name: str, module: str, short_help: str) -> None:
        super().__init__(name, short_help=short_help)
        self.module = module

    def load(self) -> click.Command:
        command: click.Command = import_module(self.module).command
        return command

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        # From here on click works with the command of the context, which is the loaded one.
        return self.load().make_context(info_name, args, parent, **extra)


COMMANDS = (
    LazyCommand("serve", "vgpumonitor.serve", "Serve the metrics of this node."),
    LazyCommand(
        "demo",
        "vgpumonitor.simulate.demo",
        "Serve simulated nodes: no GPU, cluster or privilege needed.",
    ),
    LazyCommand(
        "simulate",
        "vgpumonitor.simulate.command",
        "Write a simulated node's files into DIRECTORY, live until stopped.",
    ),
    LazyCommand(
        "inspect",
        "vgpumonitor.inspect",
        "Decode region files, or all those in directories.",
    ),
    LazyCommand(
        "top",
        "vgpumonitor.top.command",
        "Show a node in the terminal, from the exporter at URL.",
    ),
    LazyCommand(
        "doctor",
        "vgpumonitor.doctor.command",
        "Say what is wrong on this node, and what to do.",
    ),
    LazyCommand(
        "compare",
        "vgpumonitor.compare.command",
        "Compare what two exporters serve; the exit status is 1 if they differ.",
    ),
)


@click.group(
    commands=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, prog_name="vgpumonitor")
def main() -> None:
    """Monitoring for GPUs that containers share through HAMi-core."""
