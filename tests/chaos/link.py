"""A connection between two programs that can be cut: what a network does, on unix sockets."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path


class Link:
    """Listens in one place and passes everything on to another, until it is told otherwise."""

    def __init__(self, loop: asyncio.AbstractEventLoop, listens: Path, target: Path):
        self._loop = loop
        self._target = target
        self._pairs: set[_Pair] = set()
        self._is_open = True
        self._server = asyncio.run_coroutine_threadsafe(asyncio.start_unix_server(self._serve, listens), loop).result(120)

    def freeze(self) -> None:
        """Nothing passes, on old connections and new ones, until `thaw`."""
        self._soon(self._set_open, False)

    def thaw(self) -> None:
        self._soon(self._set_open, True)

    def reset(self) -> None:
        """Every connection is closed on both sides at once."""
        self._soon(lambda: [pair.close() for pair in list(self._pairs)])

    def silence(self) -> None:
        """The connections there are die without a word: nothing passes ever again, and nobody is told. New ones are well."""
        self._soon(lambda: [pair.silence() for pair in self._pairs])

    def close(self) -> None:
        self._soon(self._server.close)

    def _soon(self, action: Callable[..., object], *arguments: object) -> None:
        self._loop.call_soon_threadsafe(action, *arguments)

    def _set_open(self, is_open: bool) -> None:
        self._is_open = is_open
        for pair in self._pairs:
            pair.set_open(is_open)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there_reader, there_writer = await asyncio.open_unix_connection(self._target)
        except OSError:
            writer.close()
            return
        pair = _Pair(writer, there_writer, self._is_open)
        self._pairs.add(pair)
        try:
            with suppress(asyncio.CancelledError):  # the run is over
                await asyncio.gather(pair.pass_on(reader, there_writer), pair.pass_on(there_reader, writer))
        finally:
            pair.close()
            self._pairs.discard(pair)


class _Pair:
    """One connection: its two sides."""

    def __init__(self, here: asyncio.StreamWriter, there: asyncio.StreamWriter, is_open: bool):
        self._writers = (here, there)
        self._open = asyncio.Event()
        self._is_silent = False
        self.set_open(is_open)

    async def pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                await self._open.wait()
                writer.write(data)
                await writer.drain()
            await self._open.wait()  # an end is news too
        self.close()

    def set_open(self, is_open: bool) -> None:
        if is_open and not self._is_silent:
            self._open.set()
        else:
            self._open.clear()

    def silence(self) -> None:
        self._is_silent = True
        self._open.clear()

    def close(self) -> None:
        for writer in self._writers:
            writer.transport.abort()


class Links:
    """The thread that all links of a run live in."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._made: list[Link] = []
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True, name="links")
        self._thread.start()

    def make(self, listens: Path, target: Path) -> Link:
        self._made.append(link := Link(self._loop, listens, target))
        return link

    def close(self) -> None:
        for link in self._made:
            link.close()
        asyncio.run_coroutine_threadsafe(self._cancel_all(), self._loop).result(120)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(120)
        self._loop.close()

    async def _cancel_all(self) -> None:
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
