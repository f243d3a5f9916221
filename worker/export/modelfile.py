"""Ollama's Modelfile: what it builds a model of its own from, out of the folder.

https://docs.ollama.com/modelfile
"""

from transformers import PreTrainedTokenizerBase

from worker.data.template import Template
from worker.data.turns import AnyTemplate
from worker.export import chat_template

FILE = "Modelfile"


def modelfile(template: AnyTemplate | None, tokenizer: PreTrainedTokenizerBase) -> str:
    """Of a whole model, which is the folder itself. Without a template Ollama reads the tokenizer's.

    An adapter has none: Ollama 0.13 did not find it behind ADAPTER, and since 0.34.1 `ollama create` refuses that. Nor has a
    model that GPTQ has rounded, whose tensors it does not read.
    """
    lines = ["FROM ."]
    if template is None:
        lines.append(f"TEMPLATE {_quoted('{{ .Prompt }}')}")  # texts are gone on with as they are
    if isinstance(template, Template):
        lines.append(f"TEMPLATE {_quoted(chat_template.as_go(template, tokenizer))}")
        if template.default_system:
            lines.append(f"SYSTEM {_quoted(template.default_system)}")
    ends = chat_template.stops(template, tokenizer) if isinstance(template, Template) else [str(tokenizer.eos_token)]
    lines += [f'PARAMETER stop "{end}"' for end in ends]
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    return f'"""{text}"""'
