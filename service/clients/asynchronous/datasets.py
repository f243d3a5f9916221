"""Data sets, sent, looked at and fetched again; and the models there are."""

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import httpx2

from service.clients import requests
from service.clients.answers import Dataset, DatasetVersion, FirstRows, Job, ModelNames, Upload, Validation
from service.clients.asynchronous.connection import AsyncConnection
from service.clients.errors import Problem
from service.clients.pace import async_aside, async_sleep
from service.clients.requests import path

SENT_AT_ONCE = 2**20
KEEPING_SECONDS = 600.0  # a large file is hashed, counted and moved before the last piece is answered


class AsyncDatasets(AsyncConnection):
    """What can be asked of data sets. `name@version` is a version of one that was uploaded."""

    async def datasets(self) -> list[Dataset]:
        """The data sets there are; the operator's without their rows counted."""
        return await self._all(Dataset, "/datasets")

    async def dataset(self, name: str) -> Dataset:
        """One data set, with its rows counted where the service can."""
        return await self._get(Dataset, path("datasets", name))

    async def models(self) -> list[str]:
        """The names of the whole models there are."""
        return (await self._get(ModelNames, "/models"))["data"]

    async def versions(self, name: str) -> list[DatasetVersion]:
        """Of a data set that was uploaded, the newest first."""
        return await self._all(DatasetVersion, path("datasets", name, "versions"))

    async def upload(self, name: str, file: Path, entry: Mapping[str, Any] | None = None) -> DatasetVersion:
        """Sends a file as a data set, or as a new version of one, and has its SHA-256 checked. `entry`: how its rows read, as in
        dataset_info.json; else the first row tells.

        A connection that breaks is gone on with. To go on after more than that, keep what `begin_upload` answers.
        """
        return await self.send(await self.begin_upload(name, file, entry), file)

    async def begin_upload(self, name: str, file: Path, entry: Mapping[str, Any] | None = None) -> Upload:
        """Opens an upload of a file, which is kept for a week."""
        wanted = {
            "file_name": file.name,
            "size": file.stat().st_size,
            "sha256": await async_aside(requests.sha256_of, file),
            "entry": entry or {},
        }
        return await self._post(Upload, path("datasets", name, "uploads"), wanted)

    async def send(self, upload: Upload, file: Path) -> DatasetVersion:
        """Sends what has not come yet of an upload, until it is all there."""
        trying, offset = self._trying(patience=self._patience), 0
        while True:
            try:
                begins = (await self._get(Upload, upload["url"]))["offset"]
                if begins > offset:
                    trying.went_well()
                offset = begins
                return await self._send_rest(upload, file, offset)
            except (httpx2.TransportError, Problem) as error:
                if isinstance(error, Problem) and error.status == 404 and not trying.is_first:
                    return await self._arrived(upload, file, error)
                seconds = trying.pause(error)
            await async_sleep(seconds)

    async def validate(self, name: str, limit: int = 100) -> Validation:
        """Reads every row, and says of each fault the file, the row and the column."""
        return await self._ask(Validation, "POST", path("datasets", name, "validate"), again=True, params={"limit": limit})

    async def preview_dataset(self, name: str, limit: int = 10) -> FirstRows:
        """The first rows as they are in the files."""
        return await self._get(FirstRows, path("datasets", name, "rows"), limit=limit)

    async def inspect(self, dataset: str, model: str, **how: Any) -> Job:
        """A short job that looks at a data set and trains nothing. `how`: template, cutoff_len, val_size, held_out, ..."""
        return await self._post(Job, path("datasets", dataset, "inspect"), {"model": model, **how})

    async def download_dataset(self, name: str, to: Path) -> Path:
        """Fetches what was uploaded to a path, or into a folder under its file's name, as `download` does."""
        file_name = (await self.dataset(name))["files"][0]
        return await self._download(path("datasets", name, "content"), file_name, to)

    async def delete_dataset(self, name: str) -> None:
        """Deletes an uploaded data set, or `name@version` of it. Refused while a job that has not ended needs it."""
        await self._response("DELETE", path("datasets", name))

    async def _send_rest(self, upload: Upload, file: Path, offset: int) -> DatasetVersion:
        headers = {
            "Upload-Offset": str(offset),
            "Content-Type": "application/offset+octet-stream",
            "Content-Length": str(upload["size"] - offset),
        }
        timeout = httpx2.Timeout(self._timeout, read=KEEPING_SECONDS)
        blocks = _blocks(file, offset)
        response = await self._http.patch(upload["url"], content=blocks, headers=headers, timeout=timeout)
        version: DatasetVersion = requests.document_of(self.base_url, requests.accepted(self.base_url, response))
        return version

    async def _arrived(self, upload: Upload, file: Path, gone: Problem) -> DatasetVersion:
        """The upload is no more: it is a version, whose answer was lost, or it was given up."""
        sha256 = await async_aside(requests.sha256_of, file)
        try:
            versions = await self.versions(upload["name"])
        except Problem:
            raise gone from None
        for version in versions:
            if version["sha256"] == sha256:
                return version
        raise gone


async def _blocks(file: Path, offset: int) -> AsyncIterator[bytes]:
    with file.open("rb") as opened:
        opened.seek(offset)
        while block := await async_aside(opened.read, SENT_AT_ONCE):
            yield block
