"""The key that encrypts secrets, where the service runs in one folder and nobody has set FINEBITS_SECRET_KEY: made once, and kept
there for its owner alone."""

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
        _write(file, base64.urlsafe_b64encode(secrets.token_bytes(32)))
    return SecretStr(file.read_text(encoding="ascii", errors="replace").strip())


def _write(file: Path, key: bytes) -> None:
    """Whole or not at all: half a key would be no key, and what was encrypted with the other half lost."""
    part = file.with_name(f"{NAME}.part")
    part.unlink(missing_ok=True)
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as opened:
        opened.write(key + b"\n")
        opened.flush()
        os.fsync(opened.fileno())
    part.rename(file)
