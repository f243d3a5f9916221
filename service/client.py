"""A Python client of Finebits, in two forms with the same methods: Client, which waits, and AsyncClient, to be awaited.

    with Client("http://127.0.0.1:8765") as finebits:
        job = finebits.submit(Path("examples/pretrain-full.json"))
        for event in finebits.follow_events(job["id"]):
            print(event["message"])

What goes wrong is a ClientError; service/clients/errors.py has the tree. Answers are dictionaries with the types of
service/clients/answers.py.

Reads are asked again after a lost connection or a 502, 503 or 504; so is a submission, since it always carries an
Idempotency-Key. What may not arrive twice is asked again only where it has not been taken. A service that says Retry-After is
obeyed.
"""

from service.clients.answers import (
    Artifact,
    Checkpoint,
    Dataset,
    DatasetVersion,
    DryRun,
    Event,
    Job,
    Measured,
    Progress,
    Series,
    Slot,
    Upload,
    Validation,
    Value,
    Worker,
)
from service.clients.asynchronous.client import AsyncClient
from service.clients.errors import ClientError, Corrupt, NotEnded, Problem, Unreachable
from service.clients.requests import DEFAULT_URL
from service.clients.sightings import ENDED, Sighting
from service.clients.synchronous.client import Client

__all__ = [
    "DEFAULT_URL",
    "ENDED",
    "Artifact",
    "AsyncClient",
    "Checkpoint",
    "Client",
    "ClientError",
    "Corrupt",
    "Dataset",
    "DatasetVersion",
    "DryRun",
    "Event",
    "Job",
    "Measured",
    "NotEnded",
    "Problem",
    "Progress",
    "Series",
    "Sighting",
    "Slot",
    "Unreachable",
    "Upload",
    "Validation",
    "Value",
    "Worker",
]
