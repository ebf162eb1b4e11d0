"""No source of pods."""

from __future__ import annotations

import asyncio
import time

from vgpumonitor.sources.pods.model import PodsView


class NoPodSource:
    """Knows no pod, and there is nothing that it could miss: always current."""

    name = "none"

    @property
    def view(self) -> PodsView:
        return PodsView(up=True, synced=time.time())

    async def run(self) -> None:
        await asyncio.Event().wait()
