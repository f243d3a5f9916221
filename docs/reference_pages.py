"""Reference pages that the code writes itself: every argument with its fate, every address of the API, every template, every
reason for which a job fails.

python docs/reference_pages.py     writes arguments.md, http.md, templates.md and reasons.md in docs/reference
"""

import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from service.dispatch import Doorbell
from service.settings import Settings
from service.specs.ledger import GROUPS, LEDGER, Fate
from service.specs.reasons import RETRYABLE, Reason
from service.store.session import Database

FATES = {"works": "works", "conditional": "works if", "refused": "refused", "moot": "moot"}


def write(folder: Path) -> None:
    """The pages, where they changed: Sphinx builds again what is newer."""
    for name, lines in {
        "arguments.md": arguments(),
        "http.md": http(),
        "templates.md": templates(),
        "reasons.md": reasons(),
    }.items():
        text = "\n".join(lines) + "\n"
        path = folder / name
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def arguments() -> Iterator[str]:
    """A table for each group: name, default, what it does, what becomes of it."""
    yield "# Arguments\n"
    yield "Every argument of a job, by group. None is accepted and ignored: it works, works under the condition that stands"
    yield "beside it, is refused with a sentence, or is moot because today's libraries have taken the choice away.\n"
    for group, model in GROUPS.items():
        yield f"## {group}\n\n{_cell(model.__doc__ or '')}\n\n| argument | default | | fate |\n|---|---|---|---|"
        for name, field in model.model_fields.items():
            default = "" if field.is_required() else f"`{_shown(field.default)}`"
            fate = _fate(LEDGER[f"{group}.{name}"])
            yield f"| `{name}` | {default} | {_cell(field.description or '')} | {fate} |"
        yield ""


def http() -> Iterator[str]:
    """Every address, with its method and its first sentence."""
    from service.app import create_app

    settings = Settings(home=Path("finebits-data"))
    app = create_app(settings, Database("sqlite:////nowhere/finebits.db"), Doorbell("redis://nowhere"))
    yield "# HTTP\n"
    yield "The running service has the whole contract at `/openapi.json`, and a page to try it at `/docs`. In short:\n"
    yield "| | | |\n|---|---|---|"
    for path, methods in app.openapi()["paths"].items():
        for method, operation in methods.items():
            yield f"| `{method.upper()}` | `{path}` | {_cell(operation.get('description') or operation.get('summary', ''))} |"
    yield "\nErrors are problem documents (RFC 9457): `code` is for programs, `detail` for people, `errors` point into the body."


def reasons() -> Iterator[str]:
    """A table of the codes: what each says stands beside it where it is made, and nowhere else."""
    yield "# Why jobs fail\n"
    yield "A failed job has a `reason`, which is one of these, a `sentence` for people, and `details` with the file, row and"
    yield "column where they are known. One that may pass is tried again, up to `resources.max_retries` times. `finebits show`"
    yield "says all three.\n"
    yield "| reason | | tried again |\n|---|---|---|"
    source = Path(inspect.getfile(Reason)).read_text(encoding="utf-8")
    said = dict(re.findall(r'^    [A-Z_]+ = "(\w+)"  # (.+)$', source, re.MULTILINE))
    for reason in Reason:
        yield f"| `{reason}` | {_cell(said[reason])} | {'yes' if reason in RETRYABLE else ''} |"


def templates() -> Iterator[str]:
    """Every template, with two turns as it writes them; those that write the same stand together."""
    from worker.data.chat_template import OwnTemplate
    from worker.data.templates import TEMPLATES

    names_of: dict[str, list[str]] = {}
    for name, template in TEMPLATES.items():
        if not isinstance(template, OwnTemplate):
            names_of.setdefault(_written(template), []).append(name)
    yield "# Templates\n"
    yield "`data.template` is one of these, or `tokenizer`: the chat template that the model's tokenizer comes with."
    yield "What stands here is a conversation of a system text and two turns; `{bos}` and `{eos}` are the tokenizer's own tokens."
    yield "A token that a template needs and the tokenizer lacks is added to it: the model must have rows to spare, or"
    yield "`model.resize_vocab`.\n"
    for text, names in names_of.items():
        yield f"## {', '.join(names)}\n\n```text\n{text}\n```\n"
        added = TEMPLATES[names[0]].tokens  # type: ignore[union-attr]
        if added:
            yield f"Tokens: {', '.join(f'`{token}`' for token in added)}.\n"


def _written(template: Any) -> str:
    from service.library.formats import Conversation, Message

    said = [("user", "Hi"), ("assistant", "Hello."), ("user", "Bye"), ("assistant", "So long.")]
    conversation = Conversation("Be brief.", tuple(Message(role, content) for role, content in said), "", 1)  # type: ignore[arg-type]
    turns = list(template.turns(conversation))
    pieces = [piece for turn in turns for piece in (*turn.prompt, *turn.response, *turn.end)]
    ends = ("{eos}",) if template.efficient_eos else ()
    return "".join((*pieces, *ends, *template.last_pieces))


def _fate(fate: Fate) -> str:
    return f"{FATES[fate.kind]}{' ' if fate.kind == 'conditional' else ': ' if fate.why else ''}{_cell(fate.why)}"


def _shown(default: Any) -> str:
    if default is None or isinstance(default, bool):
        return str(default).lower().replace("none", "null")
    return ", ".join(map(str, default)) if isinstance(default, tuple) else str(default)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


if __name__ == "__main__":
    write(Path(__file__).parent / "reference")
