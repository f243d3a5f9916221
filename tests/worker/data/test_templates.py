import json
from pathlib import Path

import pytest
import trl

from service.library.formats import Conversation, Message
from service.specs import rules
from service.specs.reasons import Reason
from worker.data.template import EOS, Mark
from worker.data.templates import TEMPLATES, add_tokens, stop_ids
from worker.data.tokenize import MASKED, encode_conversation
from worker.failures import JobFailure


def conversation(*contents: str, system: str | None = None) -> Conversation:
    messages = tuple(Message(("user", "assistant")[index % 2], content) for index, content in enumerate(contents))
    return Conversation(system, messages, "it.json", 1)


def written(template: str, talk: Conversation) -> str:
    turns = TEMPLATES[template].turns(talk)
    pieces = [piece for turn in turns for part in (turn.prompt, turn.response, turn.end) for piece in part]
    return "".join([*pieces, *TEMPLATES[template].last_pieces]).replace("{bos}", "<s>").replace("{eos}", "</s>")


ALPACA = "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
VICUNA = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)
CODER = (
    "You are an AI programming assistant, utilizing the Deepseek Coder model, developed by Deepseek Company, and you only "
    "answer questions related to computer science. For politically sensitive questions, security and privacy issues, and other "
    "non-computer science questions, you will refuse to answer\n"
)
LLAMA3_1 = "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n"

# The whole text of two turns without a system text of the row's, and of one turn with the system text S.
CHATML = (
    "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHo<|im_end|>\n"
    "<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\nSo long<|im_end|>\n",
    "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHo<|im_end|>\n",
)
GEMMA = (
    "<s><start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\nHo<end_of_turn>\n"
    "<start_of_turn>user\nBye<end_of_turn>\n<start_of_turn>model\nSo long<end_of_turn>\n",
    "<s><start_of_turn>user\nS\n\nHi<end_of_turn>\n<start_of_turn>model\nHo<end_of_turn>\n",
)
DEEPSEEK3 = (
    "<s><｜User｜>Hi<｜Assistant｜>Ho</s><｜User｜>Bye<｜Assistant｜>So long</s>",
    "<s>S<｜User｜>Hi<｜Assistant｜>Ho</s>",
)
HEAD = "<|start_header_id|>{}<|end_header_id|>\n\n".format
COHERE = "<|START_OF_TURN_TOKEN|><|{}_TOKEN|>{}<|END_OF_TURN_TOKEN|>".format
EMPTY = ("<s>HiHo</s>ByeSo long</s>", "<s>SHiHo</s>")
TEXTS = {
    "alpaca": (
        f"<s>{ALPACA}### Instruction:\nHi\n\n### Response:\nHo</s>\n\n### Instruction:\nBye\n\n### Response:\nSo long</s>",
        "<s>S### Instruction:\nHi\n\n### Response:\nHo</s>",
    ),
    "atom": (
        "<s>Human: Hi\n</s><s>Assistant:Ho\n</s><s>Human: Bye\n</s><s>Assistant:So long\n</s>",
        "S<s>Human: Hi\n</s><s>Assistant:Ho\n</s>",
    ),
    "baichuan": ("<reserved_102>Hi<reserved_103>Ho<reserved_102>Bye<reserved_103>So long", "S<reserved_102>Hi<reserved_103>Ho"),
    "baichuan2": ("<reserved_106>Hi<reserved_107>Ho<reserved_106>Bye<reserved_107>So long", "S<reserved_106>Hi<reserved_107>Ho"),
    "belle": (
        "<s>Human: Hi\n\nBelle: Ho</s>\n\nHuman: Bye\n\nBelle: So long</s>",
        "<s>SHuman: Hi\n\nBelle: Ho</s>",
    ),
    "bluelm": ("[|Human|]:Hi[|AI|]:Ho</s>[|Human|]:Bye[|AI|]:So long</s>", "S[|Human|]:Hi[|AI|]:Ho</s>"),
    "chatglm3": (
        "[gMASK]sop<|user|>\nHi<|assistant|>\nHo<|user|>\nBye<|assistant|>\nSo long",
        "[gMASK]sop<|system|>\nS<|user|>\nHi<|assistant|>\nHo",
    ),
    "chatml": CHATML,
    "cohere": (
        f"<s>{COHERE('USER', 'Hi')}{COHERE('CHATBOT', 'Ho')}{COHERE('USER', 'Bye')}{COHERE('CHATBOT', 'So long')}",
        f"<s>{COHERE('SYSTEM', 'S')}{COHERE('USER', 'Hi')}{COHERE('CHATBOT', 'Ho')}",
    ),
    "cpm": ("<s><用户>Hi<AI>Ho</s><用户>Bye<AI>So long</s>", "<s>S<用户>Hi<AI>Ho</s>"),
    "deepseek": (
        "<s>User: Hi\n\nAssistant: Ho</s>User: Bye\n\nAssistant: So long</s>",
        "<s>S\n\nUser: Hi\n\nAssistant: Ho</s>",
    ),
    "deepseek3": DEEPSEEK3,
    "deepseekr1": DEEPSEEK3,
    "deepseekcoder": (
        f"<s>{CODER}### Instruction:\nHi\n### Response:\nHo\n<|EOT|>\n### Instruction:\nBye\n### Response:\nSo long\n<|EOT|>\n",
        "<s>S### Instruction:\nHi\n### Response:\nHo\n<|EOT|>\n",
    ),
    "default": ("<s>Human: Hi\nAssistant:Ho</s>\nHuman: Bye\nAssistant:So long</s>", "<s>S\nHuman: Hi\nAssistant:Ho</s>"),
    "empty": EMPTY,
    "falcon": ("User: Hi\nFalcon:Ho\nUser: Bye\nFalcon:So long", "SUser: Hi\nFalcon:Ho"),
    "gemma": GEMMA,
    "gemma2": GEMMA,
    "gemma3": GEMMA,
    "glm4": (
        "[gMASK]<sop><|user|>\nHi<|assistant|>\nHo<|user|>\nBye<|assistant|>\nSo long",
        "[gMASK]<sop><|system|>\nS<|user|>\nHi<|assistant|>\nHo",
    ),
    "intern": (
        "<s><|User|>:Hi<eoh>\n<|Bot|>:Ho<eoa>\n<|User|>:Bye<eoh>\n<|Bot|>:So long<eoa>\n",
        "<s>S<|User|>:Hi<eoh>\n<|Bot|>:Ho<eoa>\n",
    ),
    "intern2": (f"<s>{CHATML[0]}", f"<s>{CHATML[1]}"),
    "llama2": (
        "<s>[INST] Hi [/INST] Ho </s><s>[INST] Bye [/INST] So long </s>",
        "<s>[INST] <<SYS>>\nS\n<</SYS>>\n\nHi [/INST] Ho </s>",
    ),
    "llama2_zh": (
        "<s>[INST] <<SYS>>\nYou are a helpful assistant. 你是一个乐于助人的助手。\n<</SYS>>\n\nHi [/INST] Ho </s>"
        "<s>[INST] Bye [/INST] So long </s>",
        "<s>[INST] <<SYS>>\nS\n<</SYS>>\n\nHi [/INST] Ho </s>",
    ),
    "llama3": (
        f"<s>{HEAD('user')}Hi<|eot_id|>{HEAD('assistant')}Ho<|eot_id|>"
        f"{HEAD('user')}Bye<|eot_id|>{HEAD('assistant')}So long<|eot_id|>",
        f"<s>{HEAD('system')}S<|eot_id|>{HEAD('user')}Hi<|eot_id|>{HEAD('assistant')}Ho<|eot_id|>",
    ),
    "llama3_1": (
        f"<s>{HEAD('system')}{LLAMA3_1}<|eot_id|>{HEAD('user')}Hi<|eot_id|>{HEAD('assistant')}Ho<|eot_id|>"
        f"{HEAD('user')}Bye<|eot_id|>{HEAD('assistant')}So long<|eot_id|>",
        f"<s>{HEAD('system')}{LLAMA3_1}S<|eot_id|>{HEAD('user')}Hi<|eot_id|>{HEAD('assistant')}Ho<|eot_id|>",
    ),
    "ministral": ("<s>[INST]Hi[/INST]Ho</s>[INST]Bye[/INST]So long</s>", "<s>[INST]S\n\nHi[/INST]Ho</s>"),
    "mistral": ("<s>[INST] Hi [/INST]Ho</s>[INST] Bye [/INST]So long</s>", "<s>[INST] S\n\nHi [/INST]Ho</s>"),
    "mistral_small": (
        "<s>[INST]Hi[/INST]Ho</s>[INST]Bye[/INST]So long</s>",
        "<s>[SYSTEM_PROMPT]S[/SYSTEM_PROMPT][INST]Hi[/INST]Ho</s>",
    ),
    "mistral_v3": ("<s>[INST] Hi[/INST] Ho</s>[INST] Bye[/INST] So long</s>", "<s>[INST] S\n\nHi[/INST] Ho</s>"),
    "openchat": (
        "<s>GPT4 Correct User: Hi<|end_of_turn|>GPT4 Correct Assistant: Ho<|end_of_turn|>"
        "GPT4 Correct User: Bye<|end_of_turn|>GPT4 Correct Assistant: So long<|end_of_turn|>",
        "<s>GPT4 Correct System: S<|end_of_turn|>GPT4 Correct User: Hi<|end_of_turn|>GPT4 Correct Assistant: Ho<|end_of_turn|>",
    ),
    "orion": (
        "<s>Human: Hi\n\nAssistant: </s>Ho</s>Human: Bye\n\nAssistant: </s>So long</s>",
        "<s>SHuman: Hi\n\nAssistant: </s>Ho</s>",
    ),
    "phi": (
        "<|user|>\nHi<|end|>\n<|assistant|>\nHo<|end|>\n<|user|>\nBye<|end|>\n<|assistant|>\nSo long<|end|>\n<|endoftext|>",
        "<|system|>\nS<|end|>\n<|user|>\nHi<|end|>\n<|assistant|>\nHo<|end|>\n<|endoftext|>",
    ),
    "phi4": (
        "<|im_start|>user<|im_sep|>Hi<|im_end|><|im_start|>assistant<|im_sep|>Ho<|im_end|>"
        "<|im_start|>user<|im_sep|>Bye<|im_end|><|im_start|>assistant<|im_sep|>So long<|im_end|>",
        "<|im_start|>system<|im_sep|>S<|im_end|><|im_start|>user<|im_sep|>Hi<|im_end|><|im_start|>assistant<|im_sep|>Ho<|im_end|>",
    ),
    "qwen": ("<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n" + CHATML[0], CHATML[1]),
    "qwen2_5": (
        "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n" + CHATML[0],
        CHATML[1],
    ),
    "qwen3": tuple(text.replace("assistant\n", "assistant\n<think>\n\n</think>\n\n") for text in CHATML),
    "qwen3_nothink": CHATML,
    "solar": (
        "### User:\nHi\n\n### Assistant:\nHo### User:\nBye\n\n### Assistant:\nSo long",
        "### System:\nS\n\n### User:\nHi\n\n### Assistant:\nHo",
    ),
    "starchat": (
        "<|system|>\n<|end|>\n<|user|>\nHi<|end|>\n<|assistant|>\nHo<|end|>\n"
        "<|user|>\nBye<|end|>\n<|assistant|>\nSo long<|end|>\n",
        "<|system|>\nS<|end|>\n<|user|>\nHi<|end|>\n<|assistant|>\nHo<|end|>\n",
    ),
    "vanilla": EMPTY,
    "vicuna": (f"<s>{VICUNA} USER: Hi ASSISTANT:Ho</s>USER: Bye ASSISTANT:So long</s>", "<s>S USER: Hi ASSISTANT:Ho</s>"),
    "xverse": ("Human: Hi\n\nAssistant: Ho</s>Human: Bye\n\nAssistant: So long</s>", "SHuman: Hi\n\nAssistant: Ho</s>"),
    "yi": CHATML,
    "yuan": ("Hi<sep>Ho<eod>\nBye<sep>So long<eod>", "SHi<sep>Ho<eod>"),
    "zephyr": (
        "<|user|>\nHi</s>\n<|assistant|>\nHo</s>\n<|user|>\nBye</s>\n<|assistant|>\nSo long</s>\n",
        "<|system|>\nS</s>\n<|user|>\nHi</s>\n<|assistant|>\nHo</s>\n",
    ),
    "ziya": ("<s><human>:Hi\n<bot>:Ho</s>\n<human>:Bye\n<bot>:So long</s>", "<s>S<human>:Hi\n<bot>:Ho</s>"),
}
EFFICIENT = {"baichuan", "baichuan2", "chatglm3", "falcon", "glm4", "solar"}


def test_every_template_that_a_spec_may_name_is_here_and_has_its_text_below():
    assert set(TEMPLATES) == set(rules.TEMPLATES) == {*TEXTS, "tokenizer"}


@pytest.mark.parametrize("name", TEXTS)
def test_the_text_is_the_family_s(name):
    two_turns, with_system = TEXTS[name]
    assert written(name, conversation("Hi", "Ho", "Bye", "So long")) == two_turns
    assert written(name, conversation("Hi", "Ho", system="S")) == with_system


@pytest.mark.parametrize("name", TEXTS)
def test_responses_are_trained_with_their_ends_and_nothing_else(tokenizer, name):
    template = TEMPLATES[name]
    add_tokens(template, tokenizer)
    example = encode_conversation(conversation("Hi", "Ho", "Bye", "So long"), template, tokenizer, 2000, 1)
    trained = tokenizer.decode([label for label in example.labels if label != MASKED])
    end = tokenizer.eos_token
    ending = {"llama2": f" {end}", "llama2_zh": f" {end}", "atom": f"\n{end}", "deepseekcoder": f"\n{end}"}.get(name, end)
    start = {"chatglm3": "\n", "glm4": "\n", "starchat": "\n", "qwen3": "<think>\n\n</think>\n\n"}.get(name, "")
    start = " " if name in ("llama2", "llama2_zh", "deepseek", "openchat", "mistral_v3") else start
    assert trained == f"{start}Ho{ending}{start}So long{ending}"
    differing = [label for token, label in zip(example.input_ids, example.labels, strict=True) if label not in (MASKED, token)]
    assert differing == ([tokenizer.eos_token_id] if name in EFFICIENT else []), "EOS is learned at the next prompt's first token"


def test_what_a_user_writes_is_neither_a_mark_nor_a_slot():
    (turn,) = TEMPLATES["zephyr"].turns(conversation("<|user|> {eos} {content}", "Ho"))
    marks = [piece for piece in turn.prompt if isinstance(piece, Mark)]
    assert marks == ["<|user|>", EOS, "<|assistant|>"]
    assert "\n<|user|> {eos} {content}" in turn.prompt


# -- tools -------------------------------------------------------------------------------------------------------------

TOOLS = """[{"name": "find", "description": "Finds.", "parameters": {"type": "object", "required": ["what"], "properties": {
"what": {"type": "string", "description": "What.", "enum": ["a", "b"]},
"where": {"type": "array", "description": "Where.", "items": {"type": "string"}}}}},
{"type": "function", "function": {"name": "stop"}}]"""
DESCRIBED = """You have access to the following tools:
> Tool Name: find
Tool Description: Finds.
Tool Args:
  - what (string, required): What., should be one of [a, b]
  - where (array): Where., where each item should be string

> Tool Name: stop
Tool Description:\x20
Tool Args:

Use the following format if using a tool:
```
Action: tool name (one of [find, stop]).
Action Input: the input to the tool, in a JSON format representing the kwargs \
(e.g. ```{"input": "hello world", "num_beams": 5}```).
```
"""


def called(call: str, tools: str | None = TOOLS, system: str | None = None) -> Conversation:
    messages = (Message("user", "Hi"), Message("function", call), Message("observation", "seen"), Message("assistant", "Ho"))
    return Conversation(system, messages, "it.json", 7, tools)


CALL = '{"name": "find", "arguments": {"what": "é"}}'


def test_tools_are_described_behind_the_system_text_and_calls_are_actions():
    action = 'Action: find\nAction Input: {"what": "é"}'
    assert written("default", called(CALL)) == (
        f"<s>{DESCRIBED}\nHuman: Hi\nAssistant:{action}</s>\nHuman: seen\nAssistant:Ho</s>"
    )
    assert written("default", called(f"[{CALL}, {CALL}]", "[]", "S")) == (
        f"<s>S\nHuman: Hi\nAssistant:{action}\n{action}</s>\nHuman: seen\nAssistant:Ho</s>"
    )


@pytest.mark.parametrize(
    ("name", "middle"),
    [
        ("glm4", '<|assistant|>find\n{"what": "é"}<|observation|>\nseen<|assistant|>\nHo'),
        ("llama3", f'{{"what": "é"}}<|eot_id|>{HEAD("ipython")}seen<|eot_id|>{HEAD("assistant")}Ho'),
        ("qwen3_nothink", "</tool_call><|im_end|>\n<|im_start|>user\n<tool_response>\nseen\n</tool_response><|im_end|>\n"),
    ],
)
def test_families_have_slots_of_their_own_for_what_tools_answer(name, middle):
    assert middle in written(name, called(CALL))


def test_calls_are_trained_and_what_tools_answer_is_not(tokenizer):
    example = encode_conversation(called(CALL), TEMPLATES["default"], tokenizer, 4000, 1)
    trained = tokenizer.decode([label for label in example.labels if label != MASKED])
    assert trained == 'Action: find\nAction Input: {"what": "é"}</s>Ho</s>'


@pytest.mark.parametrize(
    ("call", "tools", "sentence"),
    [
        (CALL, "[{", "it.json, row 7: the tools is not valid JSON"),
        (CALL, '{"name": "find"}', "it.json, row 7: the tools must be a list of functions."),
        (CALL, '[{"name": 1}]', "it.json, row 7: every tool must be an object with a name."),
        (CALL, '[{"name": "f", "parameters": [1]}]', "it.json, row 7: the parameters of the tool 'f' must be a JSON schema."),
        ("find(é)", TOOLS, "it.json, row 7: the function call is not valid JSON"),
        ('{"name": "find"}', TOOLS, "it.json, row 7: a function call must be an object with a name and arguments."),
    ],
)
@pytest.mark.parametrize("name", ["default", "tokenizer"])
def test_tools_that_cannot_be_read_are_refused_by_their_row(tokenizer, name, call, tools, sentence):
    tokenizer.chat_template = "{% for message in messages %}{{ message.content }}{% endfor %}"
    with pytest.raises(JobFailure) as caught:
        encode_conversation(called(call, tools), TEMPLATES[name], tokenizer, 4000, 1)
    assert caught.value.sentence.startswith(sentence)
    assert (caught.value.reason, caught.value.where) == (Reason.BAD_ROW, {"file": "it.json", "row": 7})


SHARED = Path(__file__).resolve().parents[4] / "shared" / "data"
ROLES = {"human": "user", "gpt": "assistant", "function_call": "function", "observation": "observation"}


@pytest.mark.skipif(not SHARED.is_dir(), reason="the demonstration data are not beside the checkout")
@pytest.mark.parametrize("name", ["default", "qwen3", "llama3", "glm4", "tokenizer"])
def test_every_conversation_with_tools_of_the_demonstration_can_be_written(tokenizer, name):
    family = "qwen3_nothink" if name == "tokenizer" else name
    add_tokens(TEMPLATES[family], tokenizer)
    tokenizer.chat_template = (Path(trl.__file__).parent / "chat_templates" / "qwen3_instruct_2507.jinja").read_text()
    rows = json.loads((SHARED / "glaive_toolcall_en_demo.json").read_text(encoding="utf-8"))
    for number, row in enumerate(rows, 1):
        messages = tuple(Message(ROLES[message["from"]], message["value"]) for message in row["conversations"])
        talk = Conversation(None, messages, "glaive.json", number, row["tools"])
        example = encode_conversation(talk, TEMPLATES[name], tokenizer, 100_000, 1)
        trained = tokenizer.decode([label for label in example.labels if label != MASKED])
        assert trained.count(tokenizer.eos_token) == len(messages) // 2


# -- what the tokenizer must have --------------------------------------------------------------------------------------


def test_tokens_that_the_tokenizer_lacks_are_added_and_the_end_of_a_turn_is_its_eos(tokenizer):
    size, padding = len(tokenizer), tokenizer.pad_token
    assert add_tokens(TEMPLATES["chatml"], tokenizer) == ["<|im_start|>", "<|im_end|>"]
    assert (len(tokenizer), tokenizer.eos_token, tokenizer.pad_token) == (size + 2, "<|im_end|>", padding)
    assert tokenizer("<|im_end|>", add_special_tokens=False)["input_ids"] == [tokenizer.eos_token_id]
    assert add_tokens(TEMPLATES["chatml"], tokenizer) == [], "they are there now"


def test_a_piece_of_the_vocabulary_becomes_a_mark_without_a_new_row(tokenizer):
    piece = next(token for token in tokenizer.get_vocab() if len(token) > 3 and token not in ("<s>", "</s>"))
    template = TEMPLATES["chatml"].__class__(user="{content}", tokens=(piece,))
    size = len(tokenizer)
    assert add_tokens(template, tokenizer) == []
    assert len(tokenizer) == size


@pytest.mark.parametrize("name", ["default", "alpaca", "llama2", "zephyr", "tokenizer"])
def test_text_needs_no_tokens_and_keeps_the_eos(tokenizer, name):
    size = len(tokenizer)
    assert add_tokens(TEMPLATES[name], tokenizer) == []
    assert (len(tokenizer), tokenizer.eos_token) == (size, "</s>")


def test_a_generated_response_ends_at_eos_and_at_the_stop_words_that_are_tokens(tokenizer):
    assert stop_ids(TEMPLATES["default"], tokenizer) == stop_ids(TEMPLATES["tokenizer"], tokenizer) == [tokenizer.eos_token_id]
    add_tokens(TEMPLATES["glm4"], tokenizer)
    words = tokenizer.convert_tokens_to_ids(["</s>", "<|user|>", "<|observation|>"])
    assert stop_ids(TEMPLATES["glm4"], tokenizer) == words
    assert stop_ids(TEMPLATES["llama3"], tokenizer) == [tokenizer.eos_token_id], "<|eom_id|> is no token here"
