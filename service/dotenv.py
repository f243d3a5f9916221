"""`.env` for docker compose: fresh secrets, and what can be found out about this host.

Needs nothing but Python, so that `make env` works where nothing is installed:

    python3 -m service.dotenv --models /srv/models --datasets /srv/datasets
"""

import argparse
import base64
import os
import secrets
import sys
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
FOLDER = CHECKOUT if (CHECKOUT / "docker-compose.yml").exists() else Path.cwd()  # where docker compose finds both files
CARDS = Path("/proc/driver/nvidia/gpus")  # a folder for each NVIDIA GPU, where the driver is loaded
NOT_ROOT = 10001  # whom containers run as when root writes .env


class DotenvError(Exception):
    """The file cannot be written; the message is for people."""


@dataclass(frozen=True)
class Folders:
    """The host's folders that the containers see."""

    artifacts: Path
    models: Path
    datasets: Path


def main() -> None:
    parser = argparse.ArgumentParser(prog="make env", description="Write .env with fresh secrets, for docker compose.")
    parser.add_argument("--file", type=Path, default=FOLDER / ".env", help="the file; .env beside docker-compose.yml")
    parser.add_argument("--data", type=Path, default=FOLDER / "finebits-data", help="where the artifacts are kept")
    parser.add_argument("--models", type=Path, help="the models that jobs may name; the examples when not given")
    parser.add_argument("--datasets", type=Path, help="the data sets; the examples when not given")
    parser.add_argument("--force", action="store_true", help="write another where there is one, which is kept beside it")
    given = parser.parse_args()
    try:
        print(write(given.file, folders(given.data, given.models, given.datasets), given.force))
    except DotenvError as error:
        sys.exit(str(error))


def folders(data: Path, models: "Path | None", datasets: "Path | None") -> Folders:
    """What was given, and the examples for what was not."""
    return Folders(
        artifacts=(data / "artifacts").absolute(),
        models=(models or FOLDER / "examples" / "models").absolute(),
        datasets=(datasets or FOLDER / "examples").absolute(),
    )


def write(file: Path, places: Folders, force: bool = False) -> str:
    """Writes the file for its owner alone, and answers what to do next. Raises DotenvError."""
    kept = _set_aside(file, force)
    uid, gid = (os.getuid(), os.getgid()) if os.getuid() else (NOT_ROOT, NOT_ROOT)
    _make_folders(places, uid, gid)
    n_gpus = len(list(CARDS.iterdir())) if CARDS.is_dir() else 0
    _write_private(file, text(places, uid, gid, n_gpus))
    return "\n".join([*kept, *_next_steps(file, places, n_gpus)])


def text(places: Folders, uid: int, gid: int, n_gpus: int) -> str:
    """The file's lines. Secrets are 256 bits each, of characters that a URL and a shell leave as they are."""
    return f"""# Written by `finebits init`. Who can read this file can do everything; docker compose reads it where it stands.

# The secrets. A new one for PostgreSQL must also be told to the database in its volume (ALTER ROLE).
FINEBITS_API_KEY={secrets.token_urlsafe(32)}
FINEBITS_POSTGRES_PASSWORD={secrets.token_urlsafe(32)}
FINEBITS_BROKER_PASSWORD={secrets.token_urlsafe(32)}
# Encrypts the tokens for hubs that jobs bring. With another, those that are kept cannot be read any more.
FINEBITS_SECRET_KEY={base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()}

# Which worker starts: gpu or cpu. Found: {_cards(n_gpus)}.
COMPOSE_PROFILES={"gpu" if n_gpus else "cpu"}
# Jobs at once that use no GPU; each GPU takes one besides.
FINEBITS_CONCURRENCY=1

# Whom the containers run as, and so whose the files are.
FINEBITS_UID={uid}
FINEBITS_GID={gid}

# The host's folders: what jobs make, and what they may name.
FINEBITS_ARTIFACTS='{places.artifacts}'
FINEBITS_MODELS='{places.models}'
FINEBITS_DATASETS='{places.datasets}'

# Whether jobs may name models and data sets that lie on a hub: 0 or 1.
FINEBITS_HUB=0
# Whether they may push what they export to one, too.
FINEBITS_HUB_PUSH=0

# The hosts of reward APIs that ppo may send texts to, as host or host:port with commas between them.
FINEBITS_REWARD_HOSTS=

# Where the API can be reached. 0.0.0.0 opens it to the network, where it should stand behind something that speaks TLS.
FINEBITS_BIND=127.0.0.1
FINEBITS_PORT=8765
"""


def _set_aside(file: Path, force: bool) -> "list[str]":
    """The present file under another name, when it may be replaced."""
    if not file.exists():
        return []
    if not force:
        raise DotenvError(
            f"{file} is there already, and nothing was changed. Its passwords open the database in the volume `postgres`: with "
            "new ones the services could not. --force writes another all the same, and keeps this one beside it."
        )
    number = 1
    while (kept := file.with_name(f"{file.name}.before-{number}")).exists():
        number += 1
    file.rename(kept)
    return [
        f"The file before is {kept}. A database that is in the volume still has its password: put it back into the new file, "
        "or the services will be refused."
    ]


def _make_folders(places: Folders, uid: int, gid: int) -> None:
    for folder in (places.models, places.datasets):
        if not folder.is_dir():
            raise DotenvError(f"There is no folder {folder}. Make it first, or name another with --models and --datasets.")
    if any("'" in str(place) for place in (places.artifacts, places.models, places.datasets)):
        raise DotenvError("A folder's name may not have a quotation mark in it: .env could not hold it.")
    try:
        places.artifacts.mkdir(mode=0o750, parents=True, exist_ok=True)
        if os.getuid() == 0:
            os.chown(places.artifacts, uid, gid)
    except OSError as error:
        raise DotenvError(f"The folder {places.artifacts} cannot be made: {error.strerror}.") from None


def _write_private(file: Path, content: str) -> None:
    """For the owner alone from its first byte on."""
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise DotenvError(f"{file} cannot be written: {error.strerror}.") from None
    with open(descriptor, "w", encoding="utf-8") as opened:
        opened.write(content)


def _next_steps(file: Path, places: Folders, n_gpus: int) -> "list[str]":
    return [
        f"Wrote {file} with fresh secrets; only you can read it.",
        f"  GPUs       {_cards(n_gpus)}",
        f"  artifacts  {places.artifacts}",
        f"  models     {places.models}",
        f"  data sets  {places.datasets}",
        "Next: docker compose up -d --build",
        "The API is at http://127.0.0.1:8765 then; FINEBITS_API_KEY in the file is its key.",
    ]


def _cards(n_gpus: int) -> str:
    return f"{n_gpus} of NVIDIA" if n_gpus else "none, so jobs train on the CPU"


if __name__ == "__main__":
    main()
