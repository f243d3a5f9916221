"""A message as a receiver sees it: Standard Webhooks' headers (1.0.0), and a body that OpenAI's client reads."""

import base64
import hashlib
import hmac
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import orjson


def body_of(message_id: str, event: str, created_at: float, data: dict[str, Any]) -> bytes:
    """The members that OpenAI's events have, and in `data` what else is told."""
    told = {"id": fine_tuning_job_id(data["job"]), **data} if "job" in data else data
    document = {"id": message_id, "object": "event", "created_at": int(created_at), "type": event, "data": told}
    return orjson.dumps(document)


def headers_of(message_id: str, at: float, body: bytes, secrets: Sequence[str]) -> dict[str, str]:
    """A signature for each secret: a receiver takes the message for any that it knows."""
    timestamp = str(int(at))
    signatures = [_signature(message_id, timestamp, body, secret) for secret in secrets]
    return {
        "content-type": "application/json",
        "user-agent": f"finebits/{version('finebits')}",
        "webhook-id": message_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": " ".join(signatures),
    }


def fine_tuning_job_id(job_id: str) -> str:
    """The job's name at the OpenAI door: ftjob- and the same digits."""
    return f"ftjob-{job_id.removeprefix('job-')}"


def _signature(message_id: str, timestamp: str, body: bytes, secret: str) -> str:
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = b".".join((message_id.encode(), timestamp.encode(), body))
    return f"v1,{base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()}"
