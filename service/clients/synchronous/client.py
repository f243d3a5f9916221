# Written from service/clients/asynchronous/client.py by `python -m docs.generate_client`; do not edit it here.
"""The client, of its parts."""

from service.clients.synchronous.datasets import Datasets
from service.clients.synchronous.jobs import Jobs
from service.clients.synchronous.operators import Operators


class Client(Jobs, Datasets, Operators):
    """Speaks to one Finebits."""
