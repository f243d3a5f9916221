import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from service.client import Client
from service.store import schema
from service.store.session import Database


def environment(home: Path, **more: str) -> dict[str, str]:
    ours = {name: value for name, value in os.environ.items() if not name.startswith("FINEBITS_")}
    return ours | {"FINEBITS_HOME": str(home)} | more


def test_it_serves_the_api_where_the_settings_say(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/finebits.db")
    schema.upgrade(database)
    database.close()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = environment(tmp_path, FINEBITS_PORT=str(port), FINEBITS_API_KEY="sixteen-characters")
    process = subprocess.Popen([sys.executable, "-m", "service.cli", "serve"], env=settings, stderr=subprocess.PIPE)
    try:
        with Client(f"http://127.0.0.1:{port}", "sixteen-characters") as client:
            deadline = time.monotonic() + 30
            while time.monotonic() < deadline and process.poll() is None:
                try:
                    assert list(client.jobs()) == []
                    break
                except Exception:
                    time.sleep(0.1)
            assert list(client.jobs()) == []
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)
    assert process.returncode in (0, -signal.SIGTERM)


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1"])
def test_it_is_open_to_others_only_with_a_key(tmp_path: Path, host: str) -> None:
    command = [sys.executable, "-m", "service.cli", "serve"]
    done = subprocess.run(command, env=environment(tmp_path, FINEBITS_HOST=host), capture_output=True, text=True)
    assert done.returncode == 1
    assert "there is no FINEBITS_API_KEY" in done.stderr
    assert "Traceback" not in done.stderr
