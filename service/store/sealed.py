"""Secrets as the database keeps them: encrypted with the operator's key (Fernet: AES-128-CBC and HMAC-SHA256).

A key is one or several with commas between them: the first encrypts, each of them decrypts. So a key is changed by putting
another before it, having everything sealed anew (rotation.py), and taking the old one away.
"""

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from pydantic import SecretStr


def keys_of(key: SecretStr) -> list[str]:
    return [one.strip() for one in key.get_secret_value().split(",")]


def seal(text: str, key: SecretStr) -> str:
    return Fernet(keys_of(key)[0]).encrypt(text.encode()).decode()


def opened(sealed: str, key: SecretStr | None) -> str | None:
    """In clear; None where none of the keys is the one that it was sealed with."""
    if key is None:
        return None
    try:
        return MultiFernet([Fernet(one) for one in keys_of(key)]).decrypt(sealed.encode()).decode()
    except InvalidToken:
        return None


def is_by_the_first(sealed: str, key: SecretStr) -> bool:
    """Whether the newest of the keys sealed it."""
    return opened(sealed, SecretStr(keys_of(key)[0])) is not None
