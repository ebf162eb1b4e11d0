"""The commands: their list, their help, and what their flags and variables make of ``serve``."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from testing.root_log import restored_root_log
from vgpumonitor import serve
from vgpumonitor.cli import COMMANDS, LazyCommand, main
from vgpumonitor.settings import Address, Settings, parse_address

#: Environment variables that a machine may have set.
FOREIGN = ("HOOK_PATH", "HAMI_VGPU_CACHE_ROOT", "NODE_NAME", "KUBECONFIG", "HAMI_RESYNC_INTERVAL")


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Settings]]:
    """The settings with which ``serve`` would have begun."""
    settings: list[Settings] = []
    monkeypatch.setattr(serve, "serve", settings.append)
    for variable in FOREIGN:
        monkeypatch.delenv(variable, raising=False)
    with restored_root_log():
        yield settings


def run(*arguments: str, **env: str) -> Result:
    return CliRunner().invoke(main, arguments, env=env, catch_exceptions=False)


class TestCommands:
    def test_are_listed_without_being_imported(self) -> None:
        show = (
            "import sys\n"
            "from vgpumonitor.cli import main\n"
            "main(['--help'], standalone_mode=False)\n"
            "print(sorted({'aiohttp', 'rich', 'msgspec', 'vgpumonitor.serve'} & set(sys.modules)))"
        )
        done = subprocess.run(
            [sys.executable, "-c", show], capture_output=True, text=True, check=True, timeout=60
        )
        *text, loaded = done.stdout.splitlines()
        assert loaded == "[]"
        listed = text[text.index("Commands:") + 1 :]
        assert [line.split()[0] for line in listed if line[2] != " "] == sorted(
            command.name or "" for command in COMMANDS
        )
        assert "  serve     Serve the metrics of this node." in listed

    @pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
    def test_help(self, command: LazyCommand) -> None:
        """Of each, which says first what the list says, and about each option what it is for."""
        loaded = command.load()
        assert (loaded.help or "").splitlines()[0] == command.short_help
        for parameter in loaded.params:
            assert isinstance(parameter, click.Argument) or (
                isinstance(parameter, click.Option) and (parameter.help or "").endswith(".")
            )
        done = run(command.name or "", "--help")
        assert done.exit_code == 0
        assert done.stdout.startswith(f"Usage: main {command.name} [OPTIONS]")

    def test_a_misspelt_one_is_guessed(self) -> None:
        done = run("sreve")
        assert done.exit_code == 2
        assert "No such command 'sreve'. Did you mean 'serve'?" in done.stderr


class TestServe:
    def test_without_flags_has_the_defaults(self, made: list[Settings]) -> None:
        assert run("serve").exit_code == 0
        assert made == [Settings()]
        assert made[0].listen_address == (Address(None, 9394),)
        assert made[0].containers == Path("/usr/local/vgpu/containers")
        assert made[0].gc_grace == 300
        assert made[0].feedback_release_after == 60

    @pytest.mark.parametrize(
        ("flag", "field", "value"),
        [
            ("--metrics-bind-address=[::1]:80", "listen_address", (Address("::1", 80),)),
            ("--hook-path=/opt/vgpu", "containers", Path("/opt/vgpu/containers")),
            ("--containers-dir=/c", "containers", Path("/c")),
            ("--node-name=n", "node_name", "n"),
            ("--metrics=all,-memory-desc", "metrics", "all,-memory-desc"),
            ("--pods=file:/p.json", "pods", "file:/p.json"),
            ("--kubeconfig=/k", "kubeconfig", "/k"),
            ("--pod-logs-dir=/l", "pod_logs_dir", Path("/l")),
            ("--nvml=off", "nvml", "off"),
            ("--procfs=/p", "procfs", Path("/p")),
            ("--process-liveness=on", "process_liveness", "on"),
            ("--process-metrics", "process_metrics", True),
            ("--feedback", "feedback", True),
            ("--feedback-release-after=1m30s", "feedback_release_after", 90.0),
            ("--gc", "gc", True),
            ("--gc-grace=12.5", "gc_grace", 12.5),
            ("--dry-run", "dry_run", True),
            ("--web-config-file=/w", "web_config_file", Path("/w")),
            ("--log-level=debug", "log_level", "debug"),
            ("--log-format=json", "log_format", "json"),
        ],
    )
    def test_flags(self, made: list[Settings], flag: str, field: str, value: Any) -> None:
        assert run("serve", flag).exit_code == 0
        assert getattr(made[0], field) == value
        assert getattr(Settings(), field) != value

    def test_every_flag_has_a_variable(self, made: list[Settings]) -> None:
        shown = " ".join(run("serve", "--help").stdout.split())
        for each in fields(Settings):
            assert f"--{each.name.replace('_', '-')} " in shown.replace(",", " ")
            assert f"VGPUMONITOR_{each.name.upper()}" in shown

    @pytest.mark.parametrize(
        ("variable", "value", "field", "expected"),
        [
            ("HOOK_PATH", "/opt/vgpu", "containers", Path("/opt/vgpu/containers")),
            ("HAMI_VGPU_CACHE_ROOT", "/c", "containers", Path("/c")),
            ("NODE_NAME", "n", "node_name", "n"),
            ("KUBECONFIG", "/k", "kubeconfig", "/k"),
            ("HAMI_RESYNC_INTERVAL", "5m0s", "gc_grace", 300.0),
            ("HAMI_RESYNC_INTERVAL", "1m30s", "gc_grace", 90.0),
            ("VGPUMONITOR_GC_GRACE", "20", "gc_grace", 20.0),
            ("VGPUMONITOR_FEEDBACK", "true", "feedback", True),
            (
                "VGPUMONITOR_LISTEN_ADDRESS",
                ":1 :2",
                "listen_address",
                (Address(None, 1), Address(None, 2)),
            ),
        ],
    )
    def test_variables(
        self, made: list[Settings], variable: str, value: str, field: str, expected: Any
    ) -> None:
        assert run("serve", **{variable: value}).exit_code == 0
        assert getattr(made[0], field) == expected

    def test_a_flag_comes_before_its_variables_and_its_own_before_foreign_ones(
        self, made: list[Settings]
    ) -> None:
        env = {"VGPUMONITOR_GC_GRACE": "1m", "HAMI_RESYNC_INTERVAL": "1h"}
        run("serve", "--gc-grace=1s", **env)
        run("serve", **env)
        assert [settings.gc_grace for settings in made] == [1, 60]

    def test_an_unreadable_resync_interval_is_warned_of(self, made: list[Settings]) -> None:
        """As HAMi's own programs do."""
        done = run("serve", "--log-format=json", HAMI_RESYNC_INTERVAL="soon")
        assert (done.exit_code, made[0].gc_grace) == (0, 300)
        line = json.loads(done.stderr)
        assert (line["level"], line["msg"]) == ("warning", "environment variable ignored")
        assert line["variable"] == "HAMI_RESYNC_INTERVAL"
        assert line["error"].startswith("invalid duration 'soon'")

    @pytest.mark.parametrize("variable", ["VGPUMONITOR_GC_GRACE", "VGPUMONITOR_PODS"])
    def test_a_wrong_variable_of_its_own_is_an_error(
        self, made: list[Settings], variable: str
    ) -> None:
        done = run("serve", **{variable: "soon"})
        assert (done.exit_code, made) == (2, [])
        assert variable in done.stderr

    @pytest.mark.parametrize(
        ("argument", "message"),
        [
            ("--listen-address=9394", "invalid address '9394': expected HOST:PORT"),
            ("--listen-address=:99999", "invalid address ':99999': expected HOST:PORT"),
            ("--listen-address=::1:9394", "expected an IPv6 address in brackets"),
            ("--metrics=documentd", "'documentd'"),
            ("--pods=kube", "unknown pod source 'kube': expected auto, kubernetes, pod-logs,"),
            ("--pods=file:", "pod source 'file:' lacks its path: expected file:PATH"),
            ("--nvml=maybe", "'maybe' is not one of 'auto', 'off'"),
            ("--process-liveness=x", "'x' is not one of 'auto', 'on', 'off'"),
            (
                "--gc-grace=soon",
                "invalid duration 'soon': expected seconds or a Go duration such as 5m",
            ),
            ("--feedback-release-after=-1", "invalid duration '-1'"),
            ("--log-level=loud", "'loud' is not one of"),
            ("--log-format=xml", "'xml' is not one of"),
        ],
    )
    def test_a_wrong_flag_is_named(self, made: list[Settings], argument: str, message: str) -> None:
        done = run("serve", argument)
        assert (done.exit_code, made) == (2, [])
        assert f"Invalid value for '{argument.partition('=')[0]}'" in done.stderr
        assert message in done.stderr

    def test_an_unreadable_web_configuration_is_named(self) -> None:
        with restored_root_log():
            done = run("serve", "--web-config-file=/nowhere.yaml")
        assert done.exit_code == 2
        assert "--web-config-file" in done.stderr
        assert "/nowhere.yaml" in done.stderr


@pytest.mark.parametrize(
    ("text", "address"),
    [
        (":9394", Address(None, 9394)),
        ("127.0.0.1:0", Address("127.0.0.1", 0)),
        ("[::1]:80", Address("::1", 80)),
        ("node:65535", Address("node", 65535)),
    ],
)
def test_addresses_are_read_and_written_alike(text: str, address: Address) -> None:
    assert parse_address(text) == address
    assert str(address) == text
