"""The templates by name. A family's own is what its chat template writes; the others are LLaMA-Factory's public formats.

Where a family's chat template trims, so does its template here. Descriptions of tools and calls are LLaMA-Factory 0.5's, but
those of Qwen, which its chat template has.
"""

from dataclasses import replace

from transformers import PreTrainedTokenizerBase

from worker.data.chat_template import OwnTemplate
from worker.data.template import Template
from worker.data.turns import AnyTemplate

_CHATML = Template(
    user="<|im_start|>user\n{content}<|im_end|>\n<|im_start|>assistant\n",
    system="<|im_start|>system\n{content}<|im_end|>\n",
    prefix="",
    end="<|im_end|>",
    separator="\n",
    close="\n",
    unit="conversation",
    tokens=("<|im_start|>", "<|im_end|>"),
)
_QWEN = replace(
    _CHATML,
    observation="<|im_start|>user\n<tool_response>\n{content}\n</tool_response><|im_end|>\n<|im_start|>assistant\n",
    tool_format="qwen",
)
_LLAMA2 = Template(
    user="{bos}[INST] {content} [/INST]",
    response=" {content} ",
    system="<<SYS>>\n{content}\n<</SYS>>\n\n",
    prefix="",
    system_in_user=True,
    trim="messages",
    unit="conversation",
)
_LLAMA3 = Template(
    user="<|start_header_id|>user<|end_header_id|>\n\n{content}<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
    observation=(
        "<|start_header_id|>ipython<|end_header_id|>\n\n{content}<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
    ),
    system="<|start_header_id|>system<|end_header_id|>\n\n{content}<|eot_id|>",
    end="<|eot_id|>",
    trim="all",
    unit="conversation",
    tokens=("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    stop_words=("<|eom_id|>",),
)
_GEMMA = Template(
    user="<start_of_turn>user\n{content}<end_of_turn>\n<start_of_turn>model\n",
    system="{content}\n\n",
    system_in_user=True,
    end="<end_of_turn>",
    separator="\n",
    close="\n",
    trim="messages",
    unit="conversation",
    tokens=("<start_of_turn>", "<end_of_turn>"),
)
_PHI3 = Template(
    user="<|user|>\n{content}<|end|>\n<|assistant|>\n",
    system="<|system|>\n{content}<|end|>\n",
    prefix="",
    end="<|end|>",
    separator="\n",
    close="\n<|endoftext|>",
    unit="conversation",
    tokens=("<|system|>", "<|user|>", "<|assistant|>", "<|end|>"),
    marks=("<|endoftext|>",),
)
_MISTRAL_TEKKEN = Template(
    user="[INST]{content}[/INST]",
    system="{content}\n\n",
    system_in_user=True,
    unit="conversation",
    marks=("[INST]", "[/INST]"),
)
_DEEPSEEK3 = Template(user="<｜User｜>{content}<｜Assistant｜>", unit="conversation", tokens=("<｜User｜>", "<｜Assistant｜>"))
_GLM = Template(
    user="<|user|>\n{content}<|assistant|>",
    response="\n{content}",
    function="{content}",
    observation="<|observation|>\n{content}<|assistant|>",
    system="<|system|>\n{content}",
    prefix="[gMASK]<sop>",
    end="",
    efficient_eos=True,
    tool_format="glm",
    unit="conversation",
    tokens=("[gMASK]", "<sop>", "<|system|>", "<|user|>", "<|assistant|>", "<|observation|>"),
    stop_words=("<|user|>", "<|observation|>"),
)

TEMPLATES: dict[str, AnyTemplate] = {
    "alpaca": Template(
        user="### Instruction:\n{content}\n\n### Response:\n",
        default_system=(
            "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
        ),
        separator="\n\n",
    ),
    "atom": Template(user="{bos}Human: {content}\n{eos}{bos}Assistant:", response="{content}\n", prefix="", unit="conversation"),
    "baichuan": Template(
        user="<reserved_102>{content}<reserved_103>",
        prefix="",
        end="",
        efficient_eos=True,
        tokens=("<reserved_102>", "<reserved_103>"),
    ),
    "baichuan2": Template(
        user="<reserved_106>{content}<reserved_107>",
        prefix="",
        end="",
        efficient_eos=True,
        tokens=("<reserved_106>", "<reserved_107>"),
    ),
    "belle": Template(user="Human: {content}\n\nBelle: ", separator="\n\n"),
    "bluelm": Template(user="[|Human|]:{content}[|AI|]:", prefix="", unit="piece", tokens=("[|Human|]:", "[|AI|]:")),
    "chatglm3": replace(
        _GLM,
        prefix="[gMASK]sop",
        unit="piece",  # sop is a token, and a part of words
        tokens=("[gMASK]", "sop", "<|system|>", "<|user|>", "<|assistant|>", "<|observation|>"),
    ),
    "chatml": _CHATML,
    "cohere": Template(
        user=("<|START_OF_TURN_TOKEN|><|USER_TOKEN|>{content}<|END_OF_TURN_TOKEN|><|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>"),
        system="<|START_OF_TURN_TOKEN|><|SYSTEM_TOKEN|>{content}<|END_OF_TURN_TOKEN|>",
        end="<|END_OF_TURN_TOKEN|>",
        trim="messages",
        unit="conversation",
        tokens=("<|START_OF_TURN_TOKEN|>", "<|END_OF_TURN_TOKEN|>", "<|USER_TOKEN|>", "<|CHATBOT_TOKEN|>", "<|SYSTEM_TOKEN|>"),
    ),
    "cpm": Template(user="<用户>{content}<AI>"),
    "deepseek": Template(
        user="User: {content}\n\nAssistant:", response=" {content}", system="{content}\n\n", unit="conversation"
    ),
    "deepseek3": _DEEPSEEK3,
    "deepseekr1": _DEEPSEEK3,  # thoughts stay in what is trained, which the chat template takes out
    "deepseekcoder": Template(
        user="### Instruction:\n{content}\n### Response:\n",
        response="{content}\n",
        default_system=(
            "You are an AI programming assistant, utilizing the Deepseek Coder model, developed by Deepseek Company, and you "
            "only answer questions related to computer science. For politically sensitive questions, security and privacy "
            "issues, and other non-computer science questions, you will refuse to answer\n"
        ),
        end="<|EOT|>",
        separator="\n",
        close="\n",
        unit="conversation",
        tokens=("<|EOT|>",),
    ),
    "default": Template(
        user="Human: {content}\nAssistant:",
        system="{content}\n",
        separator="\n",
    ),
    "empty": Template(user="{content}"),
    "falcon": Template(user="User: {content}\nFalcon:", prefix="", end="", separator="\n", efficient_eos=True),
    "gemma": _GEMMA,
    "gemma2": _GEMMA,
    "gemma3": _GEMMA,
    "glm4": _GLM,
    "intern": Template(
        user="<|User|>:{content}<eoh>\n<|Bot|>:", end="<eoa>", separator="\n", close="\n", tokens=("<eoh>", "<eoa>")
    ),
    "intern2": replace(_CHATML, prefix="{bos}"),
    "llama2": _LLAMA2,
    "llama2_zh": replace(_LLAMA2, default_system="You are a helpful assistant. 你是一个乐于助人的助手。"),
    "llama3": _LLAMA3,
    # what the chat template of Llama 3.1 writes: the dates stand in it, whether there is a system text or not
    "llama3_1": replace(
        _LLAMA3,
        system=(
            "<|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n"
            "{content}<|eot_id|>"
        ),
        always_system=True,
    ),
    "mistral": Template(
        user="[INST] {content} [/INST]", system="{content}\n\n", system_in_user=True, marks=("[INST]", "[/INST]")
    ),
    "mistral_v3": Template(
        user="[INST] {content}[/INST]",
        response=" {content}",
        system="{content}\n\n",
        system_in_user=True,
        unit="conversation",
        marks=("[INST]", "[/INST]"),
    ),
    "ministral": _MISTRAL_TEKKEN,
    "mistral_small": replace(
        _MISTRAL_TEKKEN,
        system="[SYSTEM_PROMPT]{content}[/SYSTEM_PROMPT]",
        system_in_user=False,
        marks=("[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]"),
    ),
    "openchat": Template(
        user="GPT4 Correct User: {content}<|end_of_turn|>GPT4 Correct Assistant:",
        response=" {content}",
        system="GPT4 Correct System: {content}<|end_of_turn|>",
        end="<|end_of_turn|>",
        unit="conversation",
        tokens=("<|end_of_turn|>",),
    ),
    "orion": Template(user="Human: {content}\n\nAssistant: {eos}", unit="conversation"),
    "phi": _PHI3,
    "phi4": Template(
        user="<|im_start|>user<|im_sep|>{content}<|im_end|><|im_start|>assistant<|im_sep|>",
        system="<|im_start|>system<|im_sep|>{content}<|im_end|>",
        prefix="",
        end="<|im_end|>",
        unit="conversation",
        tokens=("<|im_start|>", "<|im_sep|>", "<|im_end|>"),
    ),
    "qwen": replace(_QWEN, default_system="You are a helpful assistant."),
    "qwen2_5": replace(_QWEN, default_system="You are Qwen, created by Alibaba Cloud. You are a helpful assistant."),
    "qwen3": replace(_QWEN, thinks=True),
    "qwen3_nothink": _QWEN,
    "solar": Template(
        user="### User:\n{content}\n\n### Assistant:\n",
        system="### System:\n{content}\n\n",
        prefix="",
        end="",
        efficient_eos=True,
    ),
    "starchat": Template(
        user="<|user|>\n{content}<|end|>\n<|assistant|>",
        response="\n{content}",
        system="<|system|>\n{content}<|end|>\n",
        always_system=True,
        prefix="",
        end="<|end|>",
        separator="\n",
        close="\n",
        unit="conversation",
        tokens=("<|system|>", "<|user|>", "<|assistant|>", "<|end|>"),
    ),
    "tokenizer": OwnTemplate(),
    "vanilla": Template(user="{content}"),
    "vicuna": Template(
        user="USER: {content} ASSISTANT:",
        system="{content} ",
        default_system=(
            "A chat between a curious user and an artificial intelligence assistant. "
            "The assistant gives helpful, detailed, and polite answers to the user's questions."
        ),
    ),
    "xverse": Template(user="Human: {content}\n\nAssistant: ", prefix=""),
    "yi": _CHATML,
    "yuan": Template(user="{content}<sep>", prefix="", end="<eod>", separator="\n", unit="piece", tokens=("<sep>", "<eod>")),
    "zephyr": Template(
        user="<|user|>\n{content}{eos}\n<|assistant|>\n",
        system="<|system|>\n{content}{eos}\n",
        prefix="",
        separator="\n",
        close="\n",
        unit="conversation",
        marks=("<|system|>", "<|user|>", "<|assistant|>"),
    ),
    "ziya": Template(user="<human>:{content}\n<bot>:", separator="\n"),
}


def add_tokens(template: AnyTemplate, tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Makes the tokenizer one that can carry the template: its tokens are there, and what ends a response is EOS.

    Answers the tokens that it had to add, for which the model needs rows.
    """
    if isinstance(template, OwnTemplate):
        return []
    known = tokenizer.get_vocab()
    missing = [token for token in template.tokens if token not in known]
    # those that are in the vocabulary as plain pieces become marks as well, or text could be cut through them
    unmarked = [token for token in template.tokens if token not in tokenizer.get_added_vocab()]
    if unmarked:
        tokenizer.add_tokens(unmarked, special_tokens=True)
    if template.end_token is not None:
        tokenizer.eos_token = template.end_token
    return missing


def stop_ids(template: AnyTemplate, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The tokens at which a generated response ends: EOS, and the template's stop words that are tokens."""
    words = () if isinstance(template, OwnTemplate) else template.stop_words
    known = tokenizer.get_vocab()
    return [tokenizer.eos_token_id, *(known[word] for word in words if word in known)]
