"""A client that holds every answer against the contract, and a bell that is only noted."""

import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from starlette.testclient import TestClient

from service.api.problems import MEDIA_TYPE, Code
from service.app import create_app
from service.settings import Settings
from tests.specs.job_documents import a_job


class Bell:
    """A dispatch that notes what it is asked, and does `on_ring` besides."""

    def __init__(self) -> None:
        self.rung: list[str] = []
        self.is_there = True
        self.on_ring: Callable[[str], None] = lambda queue: None

    def ring(self, queue: str) -> None:
        self.rung.append(queue)
        self.on_ring(queue)

    def answers(self) -> bool:
        return self.is_there


@cache
def _declared() -> dict[str, Any]:
    """The same for every application, and slow to write out."""
    settings = Settings(home=Path("nowhere"))
    paths: dict[str, Any] = create_app(settings, database=None, dispatch=Bell()).openapi()["paths"]  # type: ignore[arg-type]
    return paths


class Door(TestClient):
    """Every answer has a request id; every one that is not good is a problem document, declared for its route."""

    def __init__(self, app: Any, client: tuple[str, int] = ("testclient", 50000)):
        super().__init__(app, "http://localhost", raise_server_exceptions=False, client=client)
        self.declared = _declared()

    def request(self, method: str, url: Any, **options: Any) -> Any:  # type: ignore[override]
        response = super().request(method, url, **options)
        assert response.headers["x-request-id"]
        if not (response.is_success or response.status_code == 304) and method != "HEAD":
            self._is_a_problem(response)
        self._is_declared(method, response)
        return response

    def submit(self, document: Any = None, **groups: Any) -> str:
        """Sends a job that must be accepted, and gives back its id."""
        response = self.post("/jobs", json=document or a_job(**groups))
        assert response.status_code == 201, response.text
        return str(response.json()["id"])

    def refusals(self, document: Any, path: str = "/jobs") -> list[tuple[str, str]]:
        """(pointer, detail) of a job that must be refused."""
        response = self.post(path, json=document)
        assert response.status_code == 422, response.text
        return [(error["pointer"], error["detail"]) for error in response.json()["errors"]]

    def _is_a_problem(self, response: Any) -> None:
        assert response.headers["content-type"] == MEDIA_TYPE
        problem = response.json()
        assert problem["status"] == response.status_code
        assert problem["request_id"] == response.headers["x-request-id"]
        assert problem["code"] in set(Code)
        assert problem["type"] == f"urn:finebits:problem:{problem['code']}"
        assert problem["title"]
        assert problem["detail"]
        assert problem["instance"] == response.request.url.path
        assert all(set(error) == {"pointer", "detail"} for error in problem["errors"])

    def _is_declared(self, method: str, response: Any) -> None:
        for path, operations in sorted(self.declared.items(), key=lambda item: -len(item[0])):
            pattern = re.sub(r"\\{name\\}", ".+", re.escape(path))
            pattern = re.sub(r"\\{[a-z_]+\\}", "[^/]+", pattern)
            if method.lower() in operations and re.fullmatch(pattern, response.request.url.path):
                assert str(response.status_code) in operations[method.lower()]["responses"]
                return
