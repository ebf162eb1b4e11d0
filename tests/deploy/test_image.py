"""The image's recipe. The image itself is built and run by deploy/image/build."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import vgpumonitor

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text()


def locked(file: str) -> dict[str, str]:
    """Version by name. pip itself refuses a line without a hash."""
    text = (ROOT / "deploy/image" / file).read_text()
    return dict(re.findall(r"^([a-z0-9-]+)==(\S+) \\$", text, re.MULTILINE))


@pytest.mark.parametrize(
    ("file", "section", "key"),
    [
        ("requirements.txt", "project", "dependencies"),
        ("build-requirements.txt", "build-system", "requires"),
    ],
)
def test_locked_versions_are_those_that_the_package_asks_for(
    file: str, section: str, key: str
) -> None:
    versions = locked(file)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    for requirement in map(Requirement, project[section][key]):
        assert requirement.specifier.contains(versions[canonicalize_name(requirement.name)]), (
            requirement
        )


def test_base_is_pinned_and_the_image_starts_from_nothing() -> None:
    assert re.search(r"^ARG BASE=debian:bookworm-\d{8}-slim$", DOCKERFILE, re.MULTILINE)
    assert re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE) == ["${BASE}", "scratch"]


def test_the_image_runs_unprivileged_and_without_a_shell() -> None:
    final = DOCKERFILE.partition("FROM scratch")[2]
    assert re.findall(r"^USER (.*)$", final, re.MULTILINE) == ["65532:65532"]
    for instruction in ("ENTRYPOINT", "CMD"):
        # The shell form would need /bin/sh.
        assert re.search(rf'^(?: +)?{instruction} \["', final, re.MULTILINE), instruction
    assert 'ENTRYPOINT ["/usr/bin/vgpumonitor"]' in final
    assert "RUN" not in re.findall(r"^[A-Z]+", final, re.MULTILINE)


def test_the_command_is_there_by_its_name() -> None:
    """For `kubectl exec POD -- vgpumonitor doctor`: a program without a shell."""
    found = re.search(r"printf '%s\\n' (.*?) \\\n +> /image/usr/bin/vgpumonitor ", DOCKERFILE)
    assert found is not None
    first, *lines = re.findall(r"'([^']*)'", found[1])
    assert first == "#!/usr/bin/python3.11"
    assert re.search(r"^ +PATH=/usr/bin ", DOCKERFILE, re.MULTILINE)
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines), "doctor", "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "Say what is wrong on this node" in done.stdout


def test_the_image_asserts_nothing_of_the_flags_that_it_is_run_with() -> None:
    """A HEALTHCHECK would need to know the address, and the TLS and passwords of its port."""
    assert "HEALTHCHECK" not in DOCKERFILE


def test_the_chart_runs_this_version() -> None:
    chart = yaml.safe_load((ROOT / "deploy/charts/hami-daemon/Chart.yaml").read_text())
    assert chart["appVersion"] == vgpumonitor.__version__
