"""The audit against advisories of our own making."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests import audit

KNOWN = {
    "id": "PYSEC-2026-1",
    "aliases": ["CVE-2026-1"],
    "summary": "It is wrong.",
    "modified": "2026-01-01T00:00:00Z",
    "affected": [
        {
            "package": {"name": "left-pad", "ecosystem": "PyPI"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "1.2"}]}],
        }
    ],
}


class Advisories(ThreadingHTTPServer):
    """Knows of one package, and notes which it was asked about."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answering)
        self.asked: list[str] = []
        self.status = 200

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1/query"


class Answering(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        server: Any = self.server
        query = json.loads(self.rfile.read(int(self.headers["content-length"])))
        server.asked.append(f"{query['package']['name']} {query['version']}")
        body = json.dumps({"vulns": [KNOWN]} if query["package"]["name"] == "left-pad" else {}).encode()
        self.send_response(server.status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        """Says nothing."""


@pytest.fixture
def known() -> Iterator[Advisories]:
    with Advisories() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The audit of the packages that are named, without its bill; what it ends with."""
    monkeypatch.setattr(audit, "write_bill", lambda path: 0)

    def done(url: str, *packages: str) -> int:
        constraints = tmp_path / "constraints.txt"
        constraints.write_text("".join(f"{package}\n" for package in packages))
        return audit.main(["--constraints", str(constraints), "--advisories", url])

    return done


def test_a_known_vulnerability_fails_with_its_name_and_what_mends_it(run, known, capsys):
    assert run(known.url, "left-pad==1.1", "harmless==2.0") == 1
    assert sorted(known.asked) == ["harmless 2.0", "left-pad 1.1"]
    said = capsys.readouterr().out
    assert "left-pad 1.1: PYSEC-2026-1 CVE-2026-1, mended in 1.2" in said
    assert "1 known vulnerabilities in 2 packages" in said


def test_packages_of_which_nothing_is_known_pass(run, known, capsys):
    assert run(known.url, "harmless==2.0") == 0
    assert "0 known vulnerabilities in 1 packages" in capsys.readouterr().out


def test_advisories_that_cannot_be_asked_are_no_good_news(run, known, capsys):
    known.status = 500
    assert run(known.url, "harmless==2.0") == 2
    url = known.url
    known.shutdown()
    known.server_close()
    assert run(url, "harmless==2.0") == 2
    said = capsys.readouterr()
    assert "known vulnerabilities" not in said.out
    assert said.err.count("could not be asked, so nothing is known of the packages") == 2


@pytest.mark.long
def test_the_bill_names_what_is_installed_with_its_version(tmp_path):
    path = tmp_path / "sbom.json"
    assert audit.write_bill(path) > 50
    bill = json.loads(path.read_text())
    assert bill["bomFormat"] == "CycloneDX"
    assert bill["metadata"]["component"]["name"] == "finebits"
    versions = {component["name"].lower(): component["version"] for component in bill["components"]}
    assert {"fastapi", "sqlalchemy", "torch"} <= set(versions)
