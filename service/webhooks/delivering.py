"""Who delivers: threads of every API process, each holding what it tries by a lease in the database.

One receiver is told one thing at a time by a process, so that one who hangs keeps the others from nothing but a thread.
"""

import logging
import threading
from collections.abc import Callable
from time import monotonic

from pydantic import SecretStr
from sqlalchemy.exc import SQLAlchemyError

from service.store import webhook_deliveries, webhooks
from service.store.session import Database
from service.store.webhook_deliveries import Due, Went
from service.webhooks.message import body_of, headers_of

logger = logging.getLogger(__name__)

N_THREADS = 8
FORGET_SECONDS = 3600.0

Post = Callable[[str, dict[str, str], bytes], Went]


class Deliverer:
    """Looks for what is due, and sends it. `post` is Sender.post's."""

    def __init__(self, database: Database, key: SecretStr, post: Post, n_threads: int = N_THREADS, look_seconds: float = 1.0):
        self._database = database
        self._key = key
        self._post = post
        self._n_threads = n_threads
        self._look_seconds = look_seconds
        self._busy: set[str] = set()  # webhooks that are being told something
        self._changed = threading.Condition()
        self._closing = False
        self._looking = threading.Thread(target=self._look_on, name="webhooks", daemon=True)
        self._forgot_at = monotonic()

    def start(self) -> None:
        self._looking.start()

    def close(self, seconds: float = 5.0) -> None:
        """Begins nothing more, and waits a while for what is being sent; what is not over then is sent again by another."""
        ends_at = monotonic() + seconds
        with self._changed:
            self._closing = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._busy, timeout=seconds)
        if self._looking.is_alive():
            self._looking.join(max(0.1, ends_at - monotonic()))

    def _look_on(self) -> None:
        while not self._closing:
            try:
                while self._begin_one():
                    pass
                self._forget_now_and_then()
            except SQLAlchemyError as error:
                logger.warning("webhooks wait, for the database does not answer: %s", error)
            with self._changed:
                if not self._closing:
                    self._changed.wait(self._look_seconds)  # or until a thread is free

    def _begin_one(self) -> bool:
        with self._changed:
            busy = frozenset(self._busy)
            if self._closing or len(busy) >= self._n_threads:
                return False
        with self._database.reading() as session:
            if not webhook_deliveries.is_due(session, busy):
                return False
        with self._database.transaction() as session:
            due = webhook_deliveries.take(session, busy)
        if due is None:
            return False
        with self._changed:
            self._busy.add(due.webhook.id)
        threading.Thread(target=self._deliver, args=(due,), name=f"webhook {due.id}", daemon=True).start()
        return True

    def _deliver(self, due: Due) -> None:
        try:
            went = self._sent(due)
            with self._database.transaction() as session:
                webhook_deliveries.write(session, due, went)
        except Exception:  # whatever it was, the lease runs out and it is tried again
            logger.exception("webhook delivery %s broke off", due.id)
        finally:
            with self._changed:
                self._busy.discard(due.webhook.id)
                self._changed.notify_all()

    def _sent(self, due: Due) -> Went:
        url, signing = webhooks.url_of(due.webhook, self._key), webhooks.secrets_of(due.webhook, self._key, due.at)
        if url is None or signing is None:
            return Went(None, "The webhook's secret was kept with another FINEBITS_SECRET_KEY than the service has now.", 0.0)
        body = body_of(due.id, due.event, due.created_at, due.data)
        return self._post(url, headers_of(due.id, due.at, body, signing), body)

    def _forget_now_and_then(self) -> None:
        if monotonic() - self._forgot_at < FORGET_SECONDS:
            return
        self._forgot_at = monotonic()
        with self._database.transaction() as session:
            webhook_deliveries.forget(session)
