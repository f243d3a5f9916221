"""Tokens of jobs, encrypted with the operator's key (Fernet: AES-128-CBC and HMAC-SHA256). Only a worker reads them again."""

import json

from cryptography.fernet import Fernet, InvalidToken
from pydantic import SecretStr
from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from service.store.tables import JobTokens


def keep(session: Session, job_id: str, tokens: dict[str, str], key: SecretStr) -> None:
    """By step; a job without tokens has no row."""
    if tokens:
        sealed = Fernet(key.get_secret_value()).encrypt(json.dumps(tokens).encode()).decode()
        session.execute(insert(JobTokens).values(job_id=job_id, sealed=sealed))


def of_job(session: Session, job_id: str, key: SecretStr | None) -> dict[str, str] | None:
    """By step, in clear; None where the key is not the one that they were kept with."""
    sealed = session.scalar(select(JobTokens.sealed).where(JobTokens.job_id == job_id))
    if sealed is None:
        return {}
    if key is None:
        return None
    try:
        opened: dict[str, str] = json.loads(Fernet(key.get_secret_value()).decrypt(sealed.encode()))
    except InvalidToken:
        return None
    return opened
