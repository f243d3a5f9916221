"""Files as clients of OpenAI send them."""

import json
from typing import Any

from tests.service.api.door import Door


def chats(n: int = 40) -> bytes:
    rows = [{"messages": [{"role": "user", "content": f"{i}"}, {"role": "assistant", "content": "so"}]} for i in range(n)]
    return lines(rows)


def preferences(n: int = 40) -> bytes:
    answer = [{"role": "assistant", "content": "so"}]
    rows = [
        {
            "input": {"messages": [{"role": "user", "content": f"{i}"}]},
            "preferred_output": answer,
            "non_preferred_output": [{"role": "assistant", "content": "no"}],
        }
        for i in range(n)
    ]
    return lines(rows)


def lines(rows: list[Any]) -> bytes:
    return "\n".join(json.dumps(row) for row in rows).encode()


def send(door: Door, content: bytes, name: str = "train.jsonl", purpose: str = "fine-tune", **fields: str) -> Any:
    return door.post("/v1/files", files={"file": (name, content)}, data={"purpose": purpose, **fields})


def keep(door: Door, content: bytes | None = None, **more: str) -> str:
    """The id of a file that must be taken."""
    answer = send(door, chats() if content is None else content, **more)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["id"])
