"""A file into S3. A large one goes in parts: an upload that was interrupted keeps those that the store has.

Each part carries its SHA-256, which the store checks as it comes in. Of a whole object S3 tells, by how it was put:

    one request   ChecksumSHA256 = sha256(file)                             ETag = md5(file)
    N parts       ChecksumSHA256 = sha256(sha256(part 1) ... ) and "-N"     ETag = md5(md5(part 1) ... ) and "-N"

An ETag is no MD5 where the bucket encrypts with keys of its own, and stores that are not Amazon's may tell no checksum: either
is proof, and the lack of both is none.
"""

import hashlib
from base64 import b64encode
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from service.storage.errors import Damaged, Missing

PART_BYTES = 16 * 2**20
MOST_PARTS = 10_000
PARTS_AT_ONCE = 4


class Call(Protocol):
    """A request by its name in S3's interface. Raises StorageError."""

    def __call__(self, method: str, **arguments: Any) -> dict[str, Any]: ...


@dataclass(frozen=True)
class _Part:
    """A part that the store has, and what its bytes are here."""

    number: int  # from 1
    size: int
    sha256: bytes
    md5: bytes
    etag: str = ""

    @property
    def checksum(self) -> str:
        return b64encode(self.sha256).decode()


def put(call: Call, bucket: str, key: str, file: Path, size: int, sha256: str, part_bytes: int = PART_BYTES) -> bool:
    """True when the store has proven that it holds the file; False when it tells nothing to prove it by."""
    part_bytes = max(part_bytes, -(-size // MOST_PARTS))
    place = {"Bucket": bucket, "Key": key}
    if size <= part_bytes:
        body = file.read_bytes()
        part = _described(1, body)
        if part.sha256.hex() != sha256:
            raise Damaged(f"{file.name} has changed on this host since its hash was taken.")
        call("put_object", **place, Body=body, ChecksumSHA256=part.checksum)
        return _proves(call("head_object", **place, ChecksumMode="ENABLED"), size, [part], is_whole=True)
    if _is_there_already(call, place, file, size, part_bytes):
        return True
    parts = _put_parts(call, place, file, size, part_bytes)
    return _proves(call("head_object", **place, ChecksumMode="ENABLED"), size, parts)


def _is_there_already(call: Call, place: dict[str, str], file: Path, size: int, part_bytes: int) -> bool:
    """From an attempt that ended before it could tell."""
    try:
        head = call("head_object", **place, ChecksumMode="ENABLED")
    except Missing:
        return False
    return head["ContentLength"] == size and _proves(head, size, list(_parts(file, size, part_bytes)))


def _put_parts(call: Call, place: dict[str, str], file: Path, size: int, part_bytes: int) -> list[_Part]:
    upload = _interrupted(call, place) or call("create_multipart_upload", **place, ChecksumAlgorithm="SHA256")["UploadId"]
    target = {**place, "UploadId": upload}
    there = {part["PartNumber"]: part for part in _listed(call, target)}

    def send(number: int) -> _Part:
        body = _read(file, (number - 1) * part_bytes, min(part_bytes, size - (number - 1) * part_bytes))
        part = _described(number, body)
        known = there.get(number)
        if known is not None and _is_same(known, part):
            return replace(part, etag=known["ETag"])
        sent = call("upload_part", **target, PartNumber=number, Body=body, ChecksumSHA256=part.checksum)
        return replace(part, etag=sent["ETag"])

    with ThreadPoolExecutor(PARTS_AT_ONCE, thread_name_prefix="upload") as pool:
        futures = [pool.submit(send, number) for number in range(1, -(-size // part_bytes) + 1)]
        try:
            parts = [future.result() for future in futures]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    finished = [{"PartNumber": part.number, "ETag": part.etag, "ChecksumSHA256": part.checksum} for part in parts]
    call("complete_multipart_upload", **target, MultipartUpload={"Parts": finished})
    return parts


def _interrupted(call: Call, place: dict[str, str]) -> str | None:
    """The newest unfinished upload of this very key."""
    found = call("list_multipart_uploads", Bucket=place["Bucket"], Prefix=place["Key"]).get("Uploads", [])
    ours = [upload for upload in found if upload["Key"] == place["Key"]]
    return max(ours, key=lambda upload: upload["Initiated"])["UploadId"] if ours else None


def _listed(call: Call, target: dict[str, str]) -> Iterator[dict[str, Any]]:
    marker = 0
    while True:
        page = call("list_parts", **target, PartNumberMarker=marker)
        yield from page.get("Parts", [])
        if not page.get("IsTruncated"):
            return
        marker = page["NextPartNumberMarker"]


def _is_same(known: dict[str, Any], part: _Part) -> bool:
    if known["Size"] != part.size:
        return False
    if "ChecksumSHA256" in known:
        return bool(known["ChecksumSHA256"] == part.checksum)
    return bool(known["ETag"].strip('"') == part.md5.hex())


def _proves(head: dict[str, Any], size: int, parts: Sequence[_Part], is_whole: bool = False) -> bool:
    if head["ContentLength"] != size:
        return False
    suffix = "" if is_whole else f"-{len(parts)}"
    sha256, md5 = (parts[0].sha256, parts[0].md5) if is_whole else _of_parts(parts)
    told, etag = head.get("ChecksumSHA256", ""), head["ETag"].strip('"')
    return bool(told.removesuffix(suffix) == b64encode(sha256).decode() or etag == f"{md5.hex()}{suffix}")


def _of_parts(parts: Sequence[_Part]) -> tuple[bytes, bytes]:
    sha256 = hashlib.sha256(b"".join(part.sha256 for part in parts))
    md5 = hashlib.md5(b"".join(part.md5 for part in parts), usedforsecurity=False)
    return sha256.digest(), md5.digest()


def _parts(file: Path, size: int, part_bytes: int) -> Iterator[_Part]:
    for number, start in enumerate(range(0, size, part_bytes), 1):
        yield _described(number, _read(file, start, min(part_bytes, size - start)))


def _described(number: int, body: bytes) -> _Part:
    md5 = hashlib.md5(body, usedforsecurity=False).digest()
    return _Part(number, len(body), hashlib.sha256(body).digest(), md5)


def _read(file: Path, start: int, size: int) -> bytes:
    with file.open("rb") as opened:
        opened.seek(start)
        return opened.read(size)
