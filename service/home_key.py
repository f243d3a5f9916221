"""The key that encrypts secrets, where the service runs in one folder and nobody has set FINEBITS_SECRET_KEY: made once, and kept
there for its owner alone. While it is changed the file has two, a line each; the first encrypts."""

import base64
import os
import secrets
from pathlib import Path

from pydantic import SecretStr

NAME = "secret.key"


def kept_key(home: Path) -> SecretStr:
    """The home folder's, made now where there is none. Call it holding the folder: nobody else makes one then. Raises OSError."""
    file = home / NAME
    if not file.exists():
        _write(file, [_new_key()])
    return SecretStr(",".join(_keys(file)))


def with_a_newer_key(home: Path) -> SecretStr:
    """The same with another before it, unless a change that was broken off has put one there already. Raises OSError."""
    file = home / NAME
    keys = _keys(file)
    if len(keys) == 1:
        _write(file, [_new_key(), *keys])
    return kept_key(home)


def forget_older_keys(home: Path) -> None:
    """Call it once nothing is sealed with them any more. Raises OSError."""
    file = home / NAME
    _write(file, _keys(file)[:1])


def _keys(file: Path) -> list[str]:
    return file.read_text(encoding="ascii", errors="replace").split()


def _new_key() -> str:
    return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()


def _write(file: Path, keys: list[str]) -> None:
    """Whole or not at all: half a key would be no key, and what was encrypted with the other half lost."""
    part = file.with_name(f"{NAME}.part")
    part.unlink(missing_ok=True)
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as opened:
        opened.writelines(f"{key}\n" for key in keys)
        opened.flush()
        os.fsync(opened.fileno())
    part.rename(file)
