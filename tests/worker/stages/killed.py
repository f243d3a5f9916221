"""An attempt whose process is ended in its midst."""

import json
import os
import signal
from typing import Any

from tests.worker.stages.attempts import Attempt


def killed_at(host: Any, document: dict[str, Any], owner: Any, name: str, call: int = 1, behind: bool = False) -> Attempt:
    """An attempt in a process of its own, which SIGKILL ends at that call of a function, or behind it: what it had said."""
    said = host.root / "said.jsonl"
    pid = os.fork()
    if pid == 0:
        calls, does = [], getattr(owner, name)

        def last(*arguments: Any, **named: Any) -> Any:
            calls.append(name)
            if len(calls) < call:
                return does(*arguments, **named)
            if behind:
                does(*arguments, **named)
            os.kill(os.getpid(), signal.SIGKILL)

        setattr(owner, name, last)
        with said.open("a") as log:
            host.attempt(document, when=lambda message, run: print(json.dumps(message), file=log, flush=True))
        os._exit(1)
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status), "it came to its end without passing there"
    return Attempt([json.loads(line) for line in said.read_text().splitlines()])
