# Written from service/clients/asynchronous/connection.py by `python -m docs.generate_client`; do not edit it here.
"""How a client asks: again where that is safe, page after page, and on a stream from where it was cut off."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self, TypeVar

import httpx2

from service.clients import requests
from service.clients.errors import Corrupt, Problem
from service.clients.pace import Trying, aside, sleep, unreachable
from service.clients.requests import DEFAULT_URL, Lines, Told

Answer = TypeVar("Answer")


class Connection:
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
        self._http = httpx2.Client(
            base_url=self.base_url,
            headers={"Authorization": f"Bearer {api_key}"} if api_key else {},
            timeout=timeout,
            trust_env=not requests.is_loopback(self.base_url),  # a proxy has no way to our own loopback
            verify=not requests.is_plain(self.base_url),  # the certificates that nothing asks for take 40 ms to load
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def _get(self, kind: type[Answer], path: str, **params: Any) -> Answer:
        return self._ask(kind, "GET", path, again=True, params=requests.query(params))

    def _post(self, kind: type[Answer], path: str, document: Mapping[str, Any] | None = None, **request: Any) -> Answer:
        """With a key, so that it is done once, however often it has to be asked."""
        headers = {"Idempotency-Key": requests.fresh_key()}
        sent = {} if document is None else {"json": document}
        return self._ask(kind, "POST", path, again=True, headers=headers, **sent, **request)

    def _ask(self, kind: type[Answer], method: str, path: str, again: bool = False, **request: Any) -> Answer:
        """The document of the answer, which is a `kind`. `again`: the request may safely arrive twice."""
        response = self._response(method, path, again, **request)
        document: Answer = requests.document_of(self.base_url, response)
        return document

    def _response(self, method: str, path: str, again: bool = False, **request: Any) -> httpx2.Response:
        trying = self._trying(again)
        while True:
            try:
                return requests.accepted(self.base_url, self._http.request(method, path, **request))
            except (httpx2.TransportError, Problem) as error:
                seconds = trying.pause(error)
            sleep(seconds)

    def _all(self, kind: type[Answer], path: str, **params: Any) -> list[Answer]:
        return list(self._listing(kind, path, **params))

    def _listing(self, kind: type[Answer], path: str, **params: Any) -> Iterator[Answer]:
        """A list's items; the next page is asked for when the one before is used up."""
        while True:
            page = self._get(dict[str, Any], path, **params)
            yield from page["data"]
            if not page.get("has_more") or not page["data"]:
                return
            params["after"] = page["next_after"] if "next_after" in page else page["data"][-1]["id"]

    def _follow(self, path: str, **params: Any) -> Iterator[Told]:
        """A stream's events to its end. Where it is cut off, it is asked for again from behind the last that came."""
        trying, last = self._trying(patience=self._patience), ""
        while True:
            headers = {"Last-Event-ID": last} if last else {}
            try:
                with self._http.stream("GET", path, params=requests.query(params), headers=headers) as response:
                    for told in self._told(response):
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
            sleep(seconds)

    def _told(self, response: httpx2.Response) -> Iterator[Told]:
        if not response.is_success:
            response.read()
        lines = Lines()
        for line in requests.accepted(self.base_url, response).iter_lines():
            told = lines.add(line)
            if told is not None:
                yield told

    def _posted_stream(self, path: str, document: Any, **params: Any) -> Iterator[Told]:
        """The events that a POST is answered with. It is asked once."""
        try:
            with self._http.stream("POST", path, json=document, params=requests.query(params)) as response:
                yield from self._told(response)
        except httpx2.TransportError as error:
            raise unreachable(self.base_url, error) from None

    def _download(self, path: str, name: str, to: Path) -> Path:
        """Raises Corrupt where the bytes are not those that were stored. A part that another try has left is gone on with."""
        target = to / Path(name).name if to.is_dir() else to
        part = target.with_name(target.name + ".part")
        was_there = part.exists()
        sha256 = self._fetched(path, part)
        if aside(requests.sha256_of, part) == sha256:
            part.replace(target)
            return target
        part.unlink()
        if was_there:  # it may have been another file's
            return self._download(path, name, to)
        raise Corrupt(f"{name} arrived damaged (its SHA-256 is not {sha256}); the download is to be tried again.")

    def _fetched(self, path: str, part: Path) -> str:
        """Brings `part` to the file's end; the SHA-256 that the service names."""
        trying = self._trying(patience=self._patience)
        while True:
            try:
                return self._fetch(path, part, trying)
            except (httpx2.TransportError, Problem) as error:
                seconds = trying.pause(error)
            sleep(seconds)

    def _fetch(self, path: str, part: Path, trying: Trying) -> str:
        present = part.stat().st_size if part.exists() else 0
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={present}-"} if present else {})
        with self._http.stream("GET", path, headers=headers) as response:
            if response.status_code == 416 and present:  # what is here is not the beginning of that file
                part.unlink()
                return self._fetch(path, part, trying)
            if not response.is_success:
                response.read()
            requests.accepted(self.base_url, response)
            with part.open("ab" if response.status_code == 206 else "wb") as file:
                for block in response.iter_bytes():
                    file.write(block)  # a block is small: a thread's turn would take longer
                    trying.went_well()
            return requests.etag(response)

    def _trying(self, again: bool = True, patience: float = 0) -> Trying:
        return Trying(self.base_url, self._longest_wait, again, patience)
