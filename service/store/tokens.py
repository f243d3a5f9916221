"""Tokens of jobs, encrypted with the operator's key. Only a worker reads them again."""

import json

from pydantic import SecretStr
from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from service.store.sealed import opened, seal
from service.store.tables import JobTokens


def keep(session: Session, job_id: str, tokens: dict[str, str], key: SecretStr) -> None:
    """By step; a job without tokens has no row."""
    if tokens:
        session.execute(insert(JobTokens).values(job_id=job_id, sealed=seal(json.dumps(tokens), key)))


def of_job(session: Session, job_id: str, key: SecretStr | None) -> dict[str, str] | None:
    """By step, in clear; None where the key is not the one that they were kept with."""
    sealed = session.scalar(select(JobTokens.sealed).where(JobTokens.job_id == job_id))
    if sealed is None:
        return {}
    text = opened(sealed, key)
    if text is None:
        return None
    tokens: dict[str, str] = json.loads(text)
    return tokens
