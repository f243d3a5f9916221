"""The doorbell. The only file of the service that knows Celery.

A message says "there is work in this queue", never which: the truth is in the database. A lost message is rung again by the
workers' sweep, a doubled one finds nothing to do. So nothing here may fail a request.
"""

import logging
import threading
from typing import Protocol

from celery import Celery

logger = logging.getLogger(__name__)

TASK = "finebits.look"

# Seconds. Without these, a connection that died silently leaves a Redis client deaf for as long as the kernel waits.
TRANSPORT_OPTIONS = {
    "socket_timeout": 10,
    "socket_connect_timeout": 5,
    "socket_keepalive": True,
    "health_check_interval": 10,
}


# A hundred jobs that come at once are a few bells: each costs the process half a millisecond that requests wait for.
PAUSE_SECONDS = 0.02


class Dispatch(Protocol):
    """What the API needs of a broker."""

    def ring(self, queue: str) -> None:
        """Says that there is work in a queue. Never raises: a sweep repairs what is lost."""

    def answers(self) -> bool:
        """Whether the broker can be reached now."""


class Doorbell:
    """Rings through Celery on Redis, from a thread of its own: no request waits for the broker.

    Bells of one queue that come while it rings, or within PAUSE_SECONDS of it, are one bell: who hears it looks until there is
    nothing left to do.
    """

    def __init__(self, broker_url: str):
        self._app = Celery(broker=broker_url, set_as_current=False)
        self._app.conf.update(
            # one try: kombu's own retries would go on for six seconds for a bell that is not needed
            broker_transport_options={**TRANSPORT_OPTIONS, "max_retries": 0},
            broker_connection_timeout=3,
            task_ignore_result=True,
            task_publish_retry=False,
        )
        self._wanted: set[str] = set()
        self._changed = threading.Condition()
        self._ringer: threading.Thread | None = None
        self._closing = False

    def ring(self, queue: str) -> None:
        with self._changed:
            if self._closing:
                return
            if self._ringer is None:
                self._ringer = threading.Thread(target=self._ring, name="doorbell", daemon=True)
                self._ringer.start()
            self._wanted.add(queue)
            self._changed.notify()

    def close(self, seconds: float = 5) -> None:
        """Rings what is still to ring, and ends. What a broker that is away would not take is left to the sweep."""
        with self._changed:
            self._closing = True
            self._changed.notify()
            ringer = self._ringer
        if ringer is not None:
            ringer.join(seconds)

    def answers(self) -> bool:
        try:
            with self._app.connection_for_write() as connection:
                connection.ensure_connection(max_retries=0, timeout=3)
        except Exception:
            return False
        return True

    def _ring(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._wanted or self._closing)
                if not self._wanted:
                    return
                queues, self._wanted = sorted(self._wanted), set()
            for queue in queues:
                self._send(queue)
            with self._changed:
                self._changed.wait_for(lambda: self._closing, PAUSE_SECONDS)

    def _send(self, queue: str) -> None:
        try:
            self._app.send_task(TASK, queue=f"finebits.{queue}", ignore_result=True)
        except Exception as error:
            logger.warning("the bell of queue %s did not ring (%s); the sweep will ring it again", queue, error)
