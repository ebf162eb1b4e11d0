"""The ports that tests listen on."""

from __future__ import annotations

from pathlib import Path

import pytest

from testing.exporter import free_port, free_ports


@pytest.mark.parametrize("_", range(20))
def test_free_ports_are_none_that_connections_are_given(_: int) -> None:
    """A demo of many nodes ended since a connection had taken one of their ports."""
    given = Path("/proc/sys/net/ipv4/ip_local_port_range")
    if not given.exists():
        pytest.skip(f"{given} is not there")
    least, most = map(int, given.read_text().split())
    for port in (free_port(), *range(first := free_ports(50), first + 50)):
        assert not least <= port <= most
