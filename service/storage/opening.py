"""Which artifact store the settings name: a folder, or what a URL of fsspec's reaches."""

from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

from service.storage.errors import Unusable
from service.storage.folder import Folder
from service.storage.storage import Storage

# What each scheme needs beside fsspec: the package, and how it is installed.
SCHEMES: dict[str, tuple[str, str] | None] = {
    "s3": ("s3fs", "finebits[s3]"),
    "gs": ("gcsfs", "gcsfs"),
    "az": ("adlfs", "adlfs"),
    "file": None,
}


def open_storage(root: Path, url: str = "", s3_endpoint: str = "") -> Storage:
    """The folder `root` when there is no URL. Raises Unusable."""
    if not url:
        return Folder(root)
    check(url)
    from service.storage.remote import Remote  # here, since who keeps files in a folder need not load it

    return Remote(url, s3_endpoint)


def check(url: str) -> None:
    """Raises Unusable, with what to do, before anything depends on the store."""
    parts = urlsplit(url)
    if parts.scheme not in SCHEMES or not url.startswith(f"{parts.scheme}://"):
        known = ", ".join(f"{scheme}://" for scheme in SCHEMES)
        raise Unusable(f"An artifact store begins with one of {known}, as in s3://bucket/folder; leave it empty for a folder.")
    if parts.username or parts.password or "@" in parts.netloc:
        raise Unusable(
            "Leave credentials out of the artifact store's URL; they are read from the environment (AWS_ACCESS_KEY_ID ...)."
        )
    if parts.query or parts.fragment:
        raise Unusable("An artifact store's URL has no ? and no #.")
    if parts.scheme == "file" and (parts.netloc or parts.path in ("", "/")):
        raise Unusable("A file:// store is an absolute path, as in file:///srv/finebits.")
    if parts.scheme != "file" and not parts.netloc:
        raise Unusable(f"The URL names no bucket, as in {parts.scheme}://bucket/folder.")
    needed = SCHEMES[parts.scheme]
    if needed is not None and find_spec(needed[0]) is None:
        raise Unusable(
            f"{parts.scheme}:// needs the package {needed[0]}; run `pip install '{needed[1]}'` for the API and the workers."
        )
