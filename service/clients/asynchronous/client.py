"""The client, of its parts."""

from service.clients.asynchronous.datasets import AsyncDatasets
from service.clients.asynchronous.jobs import AsyncJobs
from service.clients.asynchronous.operators import AsyncOperators


class AsyncClient(AsyncJobs, AsyncDatasets, AsyncOperators):
    """Speaks to one Finebits."""
