"""What is done when the server is told to stop, and not only when it has stopped: streams would keep it until its time is up."""

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


@contextmanager
def on_stop(do: Callable[[], None]) -> Iterator[None]:
    """Calls `do` in the running loop at SIGTERM or SIGINT, and then whatever handled the signal before: the server."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are the main thread's; a server in another is stopped by other means
        return
    loop = asyncio.get_running_loop()
    before: dict[int, Any] = {}

    def stop(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(do)
        handler = before[number]
        if callable(handler):
            handler(number, frame)

    for number in map(int, (signal.SIGTERM, signal.SIGINT)):
        handler = signal.getsignal(number)
        # where nothing handles it, the process ends by itself, and so do its streams
        if callable(handler) and handler is not signal.default_int_handler:
            before[number] = handler
            signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            if signal.getsignal(number) is stop:
                signal.signal(number, handler)
