"""What stands between a node and the API server: it forwards, cuts, and falls silent."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from types import TracebackType


class Proxy:
    """Forwards TCP to ``port`` of 127.0.0.1 on a port of its own, in a thread of its own.

    ``silent`` connections stay open and carry nothing, as when a network drops packets;
    ``refusing`` closes new ones at once; ``idle`` seconds without a byte end one, as a load
    balancer does.
    """

    def __init__(self, port: int, *, idle: float | None = None) -> None:
        self._to = port
        self._idle = idle
        self._silent = False
        self._refusing = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self.port = 0
        self.cuts = 0

    def __enter__(self) -> Proxy:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(10)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def cut(self) -> None:
        """Ends all connections that there are."""
        asyncio.run_coroutine_threadsafe(self._cut(), self._loop).result(10)

    def fall_silent(self, silent: bool = True) -> None:
        self._loop.call_soon_threadsafe(setattr, self, "_silent", silent)

    def refuse(self, refusing: bool = True) -> None:
        self._loop.call_soon_threadsafe(setattr, self, "_refusing", refusing)
        if refusing:
            self.cut()

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _end(self) -> None:
        self._server.close()
        await self._cut()

    async def _cut(self) -> None:
        tasks = set(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        ends = [writer]
        try:
            if self._refusing:
                return
            back, forth = await asyncio.open_connection("127.0.0.1", self._to)
            ends.append(forth)
            pumps = {
                asyncio.ensure_future(self._pump(reader, forth)),
                asyncio.ensure_future(self._pump(back, writer)),
            }
            try:
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for pump in pumps:
                    pump.cancel()
                await asyncio.gather(*pumps, return_exceptions=True)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            for end in ends:
                end.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while True:
                try:
                    data = await asyncio.wait_for(reader.read(65536), self._idle)
                except TimeoutError:
                    self.cuts += 1
                    return
                if not data:
                    return
                if not self._silent:
                    writer.write(data)
                    await writer.drain()
