"""What a model is spoken to with, where a request does not say: its tokenizer's own chat template, or a plain one."""

import json
from pathlib import Path

PLAIN = "default"


def template_of(folder: Path) -> str:
    """The name of a template for the model in that folder. Raises OSError."""
    if (folder / "chat_template.jinja").is_file() or (folder / "chat_template.json").is_file():
        return "tokenizer"
    config = folder / "tokenizer_config.json"
    try:
        document = json.loads(config.read_text(encoding="utf-8")) if config.is_file() else {}
    except (ValueError, RecursionError):
        return PLAIN
    return "tokenizer" if isinstance(document, dict) and document.get("chat_template") else PLAIN
