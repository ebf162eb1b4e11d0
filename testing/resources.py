"""What a process holds."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

MIB = 1 << 20


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
