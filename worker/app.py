"""Celery, as a doorbell: one thread for each job at once, early acknowledgement, nothing kept.

Nothing here is needed for correctness: the database says what there is to do, and the sweep finds what a lost message left.
"""

from celery import Celery

from service.dispatch import TRANSPORT_OPTIONS
from worker.settings import WorkerSettings


def make_app(settings: WorkerSettings) -> Celery:
    app = Celery("finebits", broker=settings.broker_url)
    app.conf.update(
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options=TRANSPORT_OPTIONS,
        task_acks_late=False,
        task_ignore_result=True,
        task_serializer="json",
        worker_disable_prefetch=True,
        worker_hijack_root_logger=False,
        worker_prefetch_multiplier=1,
        worker_send_task_events=False,
        worker_pool="threads",
        worker_concurrency=settings.most_jobs,
        task_queues=None,
        task_create_missing_queues=True,
    )
    return app
