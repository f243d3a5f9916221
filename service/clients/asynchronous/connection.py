"""How a client asks: again where that is safe, page after page, and on a stream from where it was cut off."""

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, Self, TypeVar

import httpx2

from service.clients import requests
from service.clients.errors import Corrupt, Problem
from service.clients.pace import Trying, async_aside, async_sleep, unreachable
from service.clients.requests import DEFAULT_URL, Lines, Told

Answer = TypeVar("Answer")


class AsyncConnection:
    """Speaks to one Finebits.

    `api_key` is its bearer key, where it has one. `timeout`: seconds of silence after which a connection counts as lost.
    `longest_wait`: a service that asks for more seconds than that (Retry-After) is not waited for. `patience`: for how many
    seconds a service that is away is waited for while a job is watched, a stream read, or a file sent or fetched.
    """

    def __init__(
        self,
        base_url: str = DEFAULT_URL,
        api_key: str | None = None,
        timeout: float = 30,
        longest_wait: float = 30,
        patience: float = 60,
    ):
        self.base_url = requests.address(base_url)
        self._timeout = timeout
        self._longest_wait = longest_wait
        self._patience = patience
        self._http = httpx2.AsyncClient(
            base_url=self.base_url,
            headers={"Authorization": f"Bearer {api_key}"} if api_key else {},
            timeout=timeout,
            trust_env=not requests.is_loopback(self.base_url),  # a proxy has no way to our own loopback
            verify=not requests.is_plain(self.base_url),  # the certificates that nothing asks for take 40 ms to load
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()

    async def close(self) -> None:
        await self._http.aclose()

    async def _get(self, kind: type[Answer], path: str, **params: Any) -> Answer:
        return await self._ask(kind, "GET", path, again=True, params=requests.query(params))

    async def _post(self, kind: type[Answer], path: str, document: Mapping[str, Any] | None = None, **request: Any) -> Answer:
        """With a key, so that it is done once, however often it has to be asked."""
        headers = {"Idempotency-Key": requests.fresh_key()}
        sent = {} if document is None else {"json": document}
        return await self._ask(kind, "POST", path, again=True, headers=headers, **sent, **request)

    async def _ask(self, kind: type[Answer], method: str, path: str, again: bool = False, **request: Any) -> Answer:
        """The document of the answer, which is a `kind`. `again`: the request may safely arrive twice."""
        response = await self._response(method, path, again, **request)
        document: Answer = requests.document_of(self.base_url, response)
        return document

    async def _response(self, method: str, path: str, again: bool = False, **request: Any) -> httpx2.Response:
        trying = self._trying(again)
        while True:
            try:
                return requests.accepted(self.base_url, await self._http.request(method, path, **request))
            except (httpx2.TransportError, Problem) as error:
                seconds = trying.pause(error)
            await async_sleep(seconds)

    async def _all(self, kind: type[Answer], path: str, **params: Any) -> list[Answer]:
        return [item async for item in self._listing(kind, path, **params)]

    async def _listing(self, kind: type[Answer], path: str, **params: Any) -> AsyncIterator[Answer]:
        """A list's items; the next page is asked for when the one before is used up."""
        while True:
            page = await self._get(dict[str, Any], path, **params)
            for item in page["data"]:
                yield item
            if not page.get("has_more") or not page["data"]:
                return
            params["after"] = page["next_after"] if "next_after" in page else page["data"][-1]["id"]

    async def _follow(self, path: str, **params: Any) -> AsyncIterator[Told]:
        """A stream's events to its end. Where it is cut off, it is asked for again from behind the last that came."""
        trying, last = self._trying(patience=self._patience), ""
        while True:
            headers = {"Last-Event-ID": last} if last else {}
            try:
                async with self._http.stream("GET", path, params=requests.query(params), headers=headers) as response:
                    async for told in self._told(response):
                        trying.went_well()
                        if told.event == "end":
                            return
                        last = told.id or last
                        yield told
                    if response.status_code == 204:  # all had been told before
                        return
                    raise httpx2.RemoteProtocolError("the stream was cut off")
            except (httpx2.TransportError, Problem) as error:
                seconds = trying.pause(error)
            await async_sleep(seconds)

    async def _told(self, response: httpx2.Response) -> AsyncIterator[Told]:
        if not response.is_success:
            await response.aread()
        lines = Lines()
        async for line in requests.accepted(self.base_url, response).aiter_lines():
            told = lines.add(line)
            if told is not None:
                yield told

    async def _posted_stream(self, path: str, document: Any, **params: Any) -> AsyncIterator[Told]:
        """The events that a POST is answered with. It is asked once."""
        try:
            async with self._http.stream("POST", path, json=document, params=requests.query(params)) as response:
                async for told in self._told(response):
                    yield told
        except httpx2.TransportError as error:
            raise unreachable(self.base_url, error) from None

    async def _download(self, path: str, name: str, to: Path) -> Path:
        """Raises Corrupt where the bytes are not those that were stored. A part that another try has left is gone on with."""
        target = to / Path(name).name if to.is_dir() else to
        part = target.with_name(target.name + ".part")
        was_there = part.exists()
        sha256 = await self._fetched(path, part)
        if await async_aside(requests.sha256_of, part) == sha256:
            part.replace(target)
            return target
        part.unlink()
        if was_there:  # it may have been another file's
            return await self._download(path, name, to)
        raise Corrupt(f"{name} arrived damaged (its SHA-256 is not {sha256}); the download is to be tried again.")

    async def _fetched(self, path: str, part: Path) -> str:
        """Brings `part` to the file's end; the SHA-256 that the service names."""
        trying = self._trying(patience=self._patience)
        while True:
            try:
                return await self._fetch(path, part, trying)
            except (httpx2.TransportError, Problem) as error:
                seconds = trying.pause(error)
            await async_sleep(seconds)

    async def _fetch(self, path: str, part: Path, trying: Trying) -> str:
        present = part.stat().st_size if part.exists() else 0
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={present}-"} if present else {})
        async with self._http.stream("GET", path, headers=headers) as response:
            if response.status_code == 416 and present:  # what is here is not the beginning of that file
                part.unlink()
                return await self._fetch(path, part, trying)
            if not response.is_success:
                await response.aread()
            requests.accepted(self.base_url, response)
            with part.open("ab" if response.status_code == 206 else "wb") as file:
                async for block in response.aiter_bytes():
                    file.write(block)  # a block is small: a thread's turn would take longer
                    trying.went_well()
            return requests.etag(response)

    def _trying(self, again: bool = True, patience: float = 0) -> Trying:
        return Trying(self.base_url, self._longest_wait, again, patience)
