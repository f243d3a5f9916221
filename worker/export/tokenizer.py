"""A tokenizer with the chat template that its model was trained with."""

from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase
from transformers.utils.chat_template_utils import render_jinja_template

from worker.data.template import Template
from worker.data.turns import AnyTemplate
from worker.export.chat_template import as_jinja

_SYSTEM = {"role": "system", "content": "a"}
_SAID = [{"role": role, "content": text} for role, text in (("user", "b"), ("assistant", "c"), ("user", "d"), ("assistant", "e"))]


def write_tokenizer(tokenizer: PreTrainedTokenizerBase, template: AnyTemplate | None, folder: Path) -> None:
    """The tokenizer's own chat template stays where it writes the same: it may know of tools, too."""
    if isinstance(template, Template):
        trained_with = as_jinja(template, tokenizer)
        if not _writes_alike(tokenizer.chat_template, trained_with, tokenizer):
            tokenizer.chat_template = trained_with
    tokenizer.save_pretrained(folder)


def _writes_alike(own: Any, trained_with: str, tokenizer: PreTrainedTokenizerBase) -> bool:
    if not isinstance(own, str):
        return False
    try:
        for messages in (_SAID, [_SYSTEM, *_SAID]):
            written, expected = (
                render_jinja_template([messages], chat_template=one, **tokenizer.special_tokens_map)[0][0]
                for one in (own, trained_with)
            )
            if written.rstrip() != expected.rstrip():
                return False
    except Exception:  # a template is a program of somebody else's
        return False
    return True
