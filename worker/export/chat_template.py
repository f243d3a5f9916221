"""The template that a model was trained with, as other programs read it: Jinja for tokenizers, Go for Ollama's Modelfile.

Both write the text of `Template.turns`, without tools. What a model was trained with is what it must be asked with.
"""

import json
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from worker.data.encoding import own_text
from worker.data.template import EOS, Template

_CONTENT = "{content}"


@dataclass(frozen=True)
class _Slots:
    """A template's parts with the tokenizer's own tokens in them: (before, behind) what is said."""

    prefix: str
    separator: str
    close: str
    end: str
    system: tuple[str, str]
    user: tuple[str, str]
    observation: tuple[str, str]
    response: tuple[str, str]


def as_jinja(template: Template, tokenizer: PreTrainedTokenizerBase) -> str:
    """For `tokenizer.chat_template`."""
    slots = _slots(template, tokenizer)
    say = json.dumps
    trim = "" if template.trim == "nothing" else " | trim"
    system = "system | trim" if template.trim == "all" else "system"
    written = f"{say(slots.system[0])} ~ system ~ {say(slots.system[1])}"
    lines = [
        "{%- if tools %}{{- raise_exception('This template was trained without tools.') }}{%- endif %}",
        "{%- if messages[0]['role'] == 'system' %}{%- set system = messages[0]['content'] %}{%- set said = messages[1:] %}"
        "{%- else %}{%- set system = '' %}{%- set said = messages %}{%- endif %}",
        f"{{%- if not system %}}{{%- set system = {say(template.default_system)} %}}{{%- endif %}}",
        f"{{%- set system = {system} %}}",
        f"{{{{- {say(slots.prefix)} }}}}",
    ]
    if not template.system_in_user:
        condition = "true" if template.always_system else "system"
        lines.append(f"{{%- if {condition} %}}{{{{- {written} }}}}{{%- endif %}}")
    lines.append(f"{{%- for message in said %}}{{%- set content = message['content']{trim} %}}")
    lines.append("{%- if message['role'] == 'user' or message['role'] == 'tool' %}")
    lines.append(f"{{%- if not loop.first %}}{{{{- {say(slots.separator)} }}}}{{%- endif %}}")
    if template.system_in_user:
        lines.append(f"{{%- if loop.first and system %}}{{%- set content = {written} ~ content %}}{{%- endif %}}")
    asked = (
        f"({say(slots.observation[0])} if message['role'] == 'tool' else {say(slots.user[0])}) ~ content ~ "
        f"({say(slots.observation[1])} if message['role'] == 'tool' else {say(slots.user[1])})"
    )
    lines += [f"{{{{- {asked} }}}}", "{%- elif message['role'] == 'assistant' %}"]
    if template.thinks:
        lines.append(_THOUGHT)
    lines.append(f"{{{{- {say(slots.response[0])} ~ content ~ {say(slots.response[1])} ~ {say(slots.end)} }}}}")
    ended = (tokenizer.eos_token if template.efficient_eos else "") + slots.close
    lines.append(f"{{%- if loop.last %}}{{{{- {say(ended)} }}}}{{%- endif %}}" if ended else "")
    return "".join([*lines, "{%- endif %}{%- endfor %}"])


def as_go(template: Template, tokenizer: PreTrainedTokenizerBase) -> str:
    """For TEMPLATE in a Modelfile. BOS is not in it: Ollama puts that first itself."""
    slots = _slots(template, tokenizer)
    bos = str(tokenizer.bos_token or "")
    prefix, user = slots.prefix, slots.user[0]
    if bos and prefix.startswith(bos):
        prefix = prefix.removeprefix(bos)
    elif bos and user.startswith(bos):  # each turn has its own
        behind = "$asked" if template.system_in_user else "or $asked $.System"
        user = f"{{{{ if {behind} }}}}{bos}{{{{ end }}}}{user.removeprefix(bos)}"
    system = f"{slots.system[0]}{{{{ $.System }}}}{slots.system[1]}"
    if not template.always_system or template.system_in_user:
        system = f"{{{{ if $.System }}}}{system}{{{{ end }}}}"
    first = f"{{{{ if not $asked }}}}{system}{{{{ end }}}}" if template.system_in_user else ""
    between = f"{{{{ if $asked }}}}{slots.separator}{{{{ end }}}}" if slots.separator else ""
    return (
        f"{prefix}{'' if template.system_in_user else system}{{{{ $asked := false }}}}{{{{ range .Messages }}}}"
        f'{{{{ if eq .Role "user" }}}}{between}{user}{first}{{{{ .Content }}}}{slots.user[1]}{{{{ $asked = true }}}}'
        f'{{{{ else if eq .Role "assistant" }}}}{slots.response[0]}{{{{ .Content }}}}{slots.response[1]}{slots.end}'
        "{{ end }}{{ end }}"
    )


def stops(template: Template, tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """The texts that end an answer."""
    end = template.end.strip()
    written = [end] if end and end != EOS and end in template.tokens else []
    return list(dict.fromkeys([str(tokenizer.eos_token), *written, *template.stop_words]))


_THOUGHT = (
    "{%- set parts = content.split('</think>') %}"
    "{%- set thought = parts[0].split('<think>')[-1].strip('\\n') if parts | length > 1 else '' %}"
    "{%- set content = '<think>\\n' ~ thought ~ '\\n</think>\\n\\n' ~ parts[-1].lstrip('\\n') %}"
)


def _slots(template: Template, tokenizer: PreTrainedTokenizerBase) -> _Slots:
    def own(text: str) -> str:
        return "".join(own_text(piece, tokenizer) for piece in template._filled(text, _CONTENT))

    def around(text: str) -> tuple[str, str]:
        before, _, behind = own(text).partition(_CONTENT)
        return before, behind

    return _Slots(
        prefix=own(template.prefix),
        separator=own(template.separator),
        close=own(template.close),
        end=own(template.end),
        system=around(template.system),
        user=around(template.user),
        observation=around(template.observation or template.user),
        response=around(template.response),
    )
