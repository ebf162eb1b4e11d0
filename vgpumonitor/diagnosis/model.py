"""A finding: a kind of thing that is wrong, and where it was seen."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from msgspec import Struct

from vgpumonitor.diagnosis.kinds import KINDS, SEVERITIES, Kind
from vgpumonitor.formatting import plain


class Seen(Struct, frozen=True, gc=False):
    """What was seen, with its values, and of what: a container (``namespace/pod/container``), a
    pod, a GPU; empty for the node. Both may be text that a container wrote."""

    subject: str
    text: str


class Finding(Struct, frozen=True, gc=False):
    """One kind of thing that is wrong, and each place where it was seen: at least one."""

    kind: Kind
    seen: tuple[Seen, ...]


class Found:
    """Gathers what was seen."""

    def __init__(self) -> None:
        self._seen: defaultdict[str, list[Seen]] = defaultdict(list)

    def add(self, kind: Kind, subject: str, text: str) -> None:
        self._seen[kind.id].append(Seen(subject, text))

    def let_go(self) -> tuple[tuple[str, Seen], ...]:
        """What it has, with the id of its kind each, for another to ``take``."""
        if not self._seen:
            return ()
        seen = tuple([(kind, seen) for kind, several in self._seen.items() for seen in several])
        self._seen.clear()
        return seen

    def take(self, found: Iterable[tuple[str, Seen]]) -> None:
        for kind, seen in found:
            self._seen[kind].append(seen)

    def has(self, kind: Kind) -> bool:
        return kind.id in self._seen

    def findings(self) -> tuple[Finding, ...]:
        """A finding for each kind that was seen, the worst first."""
        return sort(
            Finding(kind, tuple(self._seen[kind.id])) for kind in KINDS if kind.id in self._seen
        )


def in_a_line(finding: Finding) -> str:
    """What it is and the first place where it was seen: text without control characters."""
    first, more = finding.seen[0], len(finding.seen) - 1
    where = f"{first.subject}: {first.text}" if first.subject else first.text
    rest = f" (and {more} more)" if more else ""
    kind = finding.kind
    return plain(f"[!] {kind.severity} {kind.id}: {kind.title}: {where}{rest}")


def sort(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """The worst first; within a severity they keep their order."""
    return tuple(sorted(findings, key=lambda finding: SEVERITIES.index(finding.kind.severity)))
