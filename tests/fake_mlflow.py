"""An MLflow server on loopback, as far as a client asks it to keep a run."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

INFO = {"run_id": "r1", "run_uuid": "r1", "experiment_id": "7", "status": "RUNNING", "artifact_uri": "none"}


@dataclass
class FakeMLflow:
    """What it was told; `is_hanging` has it say nothing more until the test ends."""

    url: str = ""
    metrics: list[tuple[str, float, int]] = field(default_factory=list)
    parameters: dict[str, str] = field(default_factory=dict)
    experiments: list[str] = field(default_factory=list)
    runs: list[dict[str, Any]] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    is_hanging: bool = False
    closing: threading.Event = field(default_factory=threading.Event)

    def answer(self, method: str, path: str, asked: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        verb = path.partition("?")[0].removeprefix("/api/2.0/mlflow/")
        match verb:
            case "experiments/get-by-name":
                return 404, {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "There is none."}
            case "experiments/create":
                self.experiments.append(asked["name"])
                return 200, {"experiment_id": "7"}
            case "runs/create":
                self.runs.append(asked)
                return 200, {"run": {"info": INFO, "data": {}}}
            case "runs/get":
                return 200, {"run": {"info": INFO, "data": {}}}
            case "runs/log-batch":
                self.metrics += [(one["key"], one["value"], int(one["step"])) for one in asked.get("metrics", [])]
                self.parameters |= {one["key"]: one["value"] for one in asked.get("params", [])}
                return 200, {}
            case "runs/update":
                self.ended.append(asked["status"])
                return 200, {"run_info": INFO | {"status": asked["status"]}}
        return 404, {"error_code": "ENDPOINT_NOT_FOUND", "message": f"{method} {path}"}


@contextmanager
def fake_mlflow() -> Iterator[FakeMLflow]:
    mlflow = FakeMLflow()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if mlflow.is_hanging:
                mlflow.closing.wait()
                self.close_connection = True
                return
            status, document = mlflow.answer(self.command, self.path, json.loads(body or b"{}"))
            said = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        do_GET = do_POST

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    mlflow.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield mlflow
    finally:
        mlflow.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()
