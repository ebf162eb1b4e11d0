"""What a process holds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from testing.exporter import Exporter
from testing.polling import eventually


@dataclass(frozen=True)
class Held:
    """Resident memory in bytes, descriptors, inotify watches."""

    memory: int
    descriptors: int
    watches: int

    @classmethod
    def by(cls, pid: int) -> Held:
        proc = Path(f"/proc/{pid}")
        status = (proc / "status").read_text()
        fds = list((proc / "fdinfo").iterdir())
        watches = 0
        for fd in fds:
            with suppress(FileNotFoundError):
                watches += fd.read_text().count("inotify wd:")
        memory = int(status.partition("VmRSS:")[2].split()[0]) * 1024
        return cls(memory, len(fds), watches)

    @classmethod
    def at_rest(cls, exporter: Exporter) -> Held:
        """What an exporter holds once it has closed its clients' connections."""
        eventually(lambda: not any(_connections(exporter.port)))
        return cls.by(exporter.process.pid)

    def most(self, other: Held) -> Held:
        return Held(
            max(self.memory, other.memory),
            max(self.descriptors, other.descriptors),
            max(self.watches, other.watches),
        )


_LISTEN = "0A"


def _connections(port: int) -> Iterator[str]:
    """The inodes of sockets that are still a process's, of those who asked at ``port``."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        # One that only the kernel still knows has no inode.
        mine = int(fields[1].rpartition(":")[2], 16) == port and fields[3] != _LISTEN
        if mine and fields[9] != "0":
            yield fields[9]
