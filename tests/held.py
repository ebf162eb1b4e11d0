"""What an exporter's process holds."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.exporter import Exporter

MIB = 1 << 20


@dataclass(frozen=True)
class Held:
    """Resident memory in bytes, descriptors, inotify watches."""

    memory: int
    descriptors: int
    watches: int

    @classmethod
    def by(cls, exporter: Exporter) -> Held:
        proc = Path(f"/proc/{exporter.process.pid}")
        status = (proc / "status").read_text()
        fds = list((proc / "fdinfo").iterdir())
        watches = 0
        for fd in fds:
            with suppress(FileNotFoundError):
                watches += fd.read_text().count("inotify wd:")
        memory = int(status.partition("VmRSS:")[2].split()[0]) * 1024
        return cls(memory, len(fds), watches)
