"""The least that a file server can be: what `transfers.py` compares the service with."""

import os
from pathlib import Path

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles


def from_environment() -> Starlette:
    root = Path(os.environ["PLAIN_ROOT"]) / "plain"
    root.mkdir(exist_ok=True)

    async def put(request: Request) -> Response:
        with (root / request.path_params["name"]).open("wb", buffering=2**20) as file:
            async for piece in request.stream():
                file.write(piece)
            file.flush()
            await run_in_threadpool(os.fsync, file.fileno())
        return Response(status_code=204)

    return Starlette(routes=[Route("/{name}", put, methods=["PUT"]), Mount("/static", StaticFiles(directory=root))])
