"""Secrets as the database keeps them: encrypted with the operator's key (Fernet: AES-128-CBC and HMAC-SHA256)."""

from cryptography.fernet import Fernet, InvalidToken
from pydantic import SecretStr


def seal(text: str, key: SecretStr) -> str:
    return Fernet(key.get_secret_value()).encrypt(text.encode()).decode()


def opened(sealed: str, key: SecretStr | None) -> str | None:
    """In clear; None where the key is not the one that it was sealed with."""
    if key is None:
        return None
    try:
        return Fernet(key.get_secret_value()).decrypt(sealed.encode()).decode()
    except InvalidToken:
        return None
