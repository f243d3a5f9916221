"""Token ids equal to `apply_chat_template`, for each family whose chat template there is something to compare with."""

from pathlib import Path

import pytest
import trl
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from service.library.formats import Conversation, Message
from service.specs.reasons import Reason
from tests.worker.conftest import SENTENCES
from worker.data.templates import TEMPLATES, add_tokens
from worker.data.tokenize import MASKED, encode_conversation
from worker.failures import JobFailure

FOLDER = Path(trl.__file__).parent / "chat_templates"

# Those that trl does not keep, as their models' cards have them.
OTHERS = {
    "llama2": (
        "{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}"
        "{% set system_message = messages[0]['content'] %}{% else %}{% set loop_messages = messages %}"
        "{% set system_message = false %}{% endif %}{% for message in loop_messages %}"
        "{% if loop.index0 == 0 and system_message != false %}"
        "{% set content = '<<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' + message['content'] %}"
        "{% else %}{% set content = message['content'] %}{% endif %}"
        "{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + content | trim + ' [/INST]' }}"
        "{% elif message['role'] == 'assistant' %}{{ ' '  + content | trim + ' ' + eos_token }}{% endif %}{% endfor %}"
    ),
    "zephyr": (
        "{% for message in messages %}\n{% if message['role'] == 'user' %}\n"
        "{{ '<|user|>\n' + message['content'] + eos_token }}\n{% elif message['role'] == 'system' %}\n"
        "{{ '<|system|>\n' + message['content'] + eos_token }}\n{% elif message['role'] == 'assistant' %}\n"
        "{{ '<|assistant|>\n'  + message['content'] + eos_token }}\n{% endif %}\n"
        "{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n{% endfor %}"
    ),
    "deepseek": (
        "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}"
        "{{ 'User: ' + message['content'] + '\n\n' }}{% elif message['role'] == 'assistant' %}"
        "{{ 'Assistant: ' + message['content'] + eos_token }}{% elif message['role'] == 'system' %}"
        "{{ message['content'] + '\n\n' }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
    ),
    "openchat": (
        "{{ bos_token }}{% for message in messages %}{{ 'GPT4 Correct ' + message['role'].title() + ': ' + message['content']"
        " + '<|end_of_turn|>'}}{% endfor %}{% if add_generation_prompt %}{{ 'GPT4 Correct Assistant:' }}{% endif %}"
    ),
    "chatml": (
        "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    ),
    "phi4": (
        "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '<|im_sep|>' + message['content'] + '<|im_end|>' }}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant<|im_sep|>' }}{% endif %}"
    ),
}
OTHERS["yi"] = OTHERS["chatml"]
OTHERS["intern2"] = "{{ bos_token }}" + OTHERS["chatml"]

OFFICIAL = {
    "cohere": "cohere",
    "deepseek3": "deepseekv3",
    "gemma": "gemma",
    "gemma2": "gemma",
    "gemma3": "gemma3",
    "llama3": "llama3",
    "llama3_1": "llama3_1",
    "phi": "phi3",
    "qwen2_5": "qwen2_5",
    "qwen3": "qwen3_training",
    "qwen3_nothink": "qwen3_instruct_2507",
}
WITHOUT_SYSTEM = {"gemma", "gemma2"}

# What ends a text in these families, where it is not what ends a turn.
EOS = {"phi": "<|endoftext|>", "deepseek3": "<｜end▁of▁sentence｜>"}

TALKS = {
    "short": ["Hi", "Ho"],
    "long": ["the quick fox\n\n", "  jumps — naïvely: 日本語", "Bye\n", "\n\nSo long <|x|>", "?", ""],
}


def conversation(*contents: str, system: str | None = None) -> Conversation:
    messages = tuple(Message(("user", "assistant")[index % 2], content) for index, content in enumerate(contents))
    return Conversation(system, messages, "it.json", 1)


def chat_template(name: str) -> str:
    return OTHERS[name] if name in OTHERS else official(OFFICIAL[name])


def official(name: str) -> str:
    return (FOLDER / f"{name}.jinja").read_text(encoding="utf-8")


def messages_of(talk: Conversation) -> list[dict[str, str]]:
    first = [{"role": "system", "content": talk.system}] if talk.system else []
    return first + [{"role": message.role, "content": message.content} for message in talk.messages]


def carrying(tokenizer: PreTrainedTokenizerBase, name: str, template: str | None = None) -> PreTrainedTokenizerBase:
    """The tokenizer with the family's tokens and its chat template, or that one."""
    tokenizer.eos_token = EOS.get(name, "</s>")
    add_tokens(TEMPLATES[name], tokenizer)
    tokenizer.chat_template = template or chat_template(name)
    return tokenizer


def applied(tokenizer: PreTrainedTokenizerBase, name: str, talk: Conversation, **options):
    eos = {"eos_token": EOS[name]} if name in EOS else {}
    return tokenizer.apply_chat_template(messages_of(talk), tokenize=True, return_dict=False, **eos, **options)


def text_of(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> str:
    return tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)


@pytest.fixture
def metaspace(tmp_path) -> PreTrainedTokenizerBase:
    """A tokenizer of Llama 2's kind: a space is a letter, and one stands before the first word."""
    backend = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    backend.decoder = decoders.Sequence([decoders.Metaspace(), decoders.ByteFallback(), decoders.Fuse()])
    special = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    backend.train_from_iterator(SENTENCES, trainers.BpeTrainer(vocab_size=400, special_tokens=special, show_progress=False))
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


# -- the named templates -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["tokenizer", "metaspace"])
@pytest.mark.parametrize("system", [None, "Be  brief.\n"])
@pytest.mark.parametrize("name", sorted(OFFICIAL | OTHERS))
def test_tokens_are_those_of_apply_chat_template(request, name, system, kind):
    if name in WITHOUT_SYSTEM:
        system = None
    tokenizer = carrying(request.getfixturevalue(kind), name)
    for contents in TALKS.values():
        talk = conversation(*contents, system=system)
        own = applied(tokenizer, name, talk)
        assert encode_conversation(talk, TEMPLATES[name], tokenizer, 2000, 1).input_ids == own


@pytest.mark.parametrize("name", ["cohere", "gemma", "gemma3", "llama3", "phi", "qwen2_5", "qwen3", "qwen3_nothink"])
def test_what_is_trained_is_what_the_family_s_training_template_marks(tokenizer, name):
    """But for line breaks around a response, and the EOS with which Phi-3 closes a text: nothing needs to learn those."""
    tokenizer = carrying(tokenizer, name, official(OFFICIAL[name].removesuffix("_training") + "_training"))
    talk = conversation("the quick fox", "jumps — naïvely: 日本語", "Bye", "So long")
    eos = {"eos_token": EOS[name]} if name in EOS else {}
    both = tokenizer.apply_chat_template(messages_of(talk), return_dict=True, return_assistant_tokens_mask=True, **eos)
    example = encode_conversation(talk, TEMPLATES[name], tokenizer, 2000, 1)
    assert example.input_ids == both["input_ids"]
    trained = [label != MASKED for label in example.labels]
    marked = [bool(mark) for mark in both["assistant_masks"]]
    assert not any(ours and not theirs for ours, theirs in zip(trained, marked, strict=True))
    more = [token for token, ours, theirs in zip(both["input_ids"], trained, marked, strict=True) if theirs and not ours]
    assert text_of(tokenizer, more).replace("\n", "") == EOS.get(name, "")


def test_thoughts_are_a_block_before_the_answer_and_an_empty_one_where_there_are_none(tokenizer):
    tokenizer = carrying(tokenizer, "qwen3")
    talk = conversation("Hi", "<think>\nhm\n</think>\n\nHo", "Bye", "So long", "?", "<think>a</think>b</think>\nc")
    ids = encode_conversation(talk, TEMPLATES["qwen3"], tokenizer, 2000, 1).input_ids
    assert ids == applied(tokenizer, "qwen3", talk)
    text = text_of(tokenizer, ids)
    assert "assistant\n<think>\nhm\n</think>\n\nHo<|im_end|>" in text
    assert "assistant\n<think>\n\n</think>\n\nSo long<|im_end|>" in text


def test_thoughts_of_r1_are_trained_as_the_row_has_them(tokenizer):
    tokenizer.eos_token = EOS["deepseek3"]
    tokenizer = carrying(tokenizer, "deepseekr1", official("deepseek_r1_distill_training").replace(EOS["deepseek3"], "</s>"))
    talk = conversation("Hi", "<think>\nhm\n</think>\n\nHo", "Bye", "So long")
    ids = encode_conversation(talk, TEMPLATES["deepseekr1"], tokenizer, 2000, 1).input_ids
    assert ids == applied(tokenizer, "deepseekr1", talk)


TOOLS = '[{"name": "look", "description": "Looks.", "parameters": {"type": "object", "properties": {}}}]'


@pytest.mark.parametrize("system", [None, "Be brief."])
@pytest.mark.parametrize("name", ["qwen2_5", "qwen3", "qwen3_nothink"])
def test_tools_and_their_calls_are_qwen_s_own(tokenizer, name, system):
    tokenizer = carrying(tokenizer, name)
    messages = (
        Message("user", "Hi"),
        Message("function", '{"name": "look", "arguments": {"at": "é"}}'),
        Message("observation", '{"seen": 1}'),
        Message("assistant", "Ho"),
    )
    talk = Conversation(system, messages, "it.json", 1, tools=TOOLS)
    by_name = encode_conversation(talk, TEMPLATES[name], tokenizer, 4000, 1)
    by_itself = encode_conversation(talk, TEMPLATES["tokenizer"], tokenizer, 4000, 1)
    assert text_of(tokenizer, by_name.input_ids) == text_of(tokenizer, by_itself.input_ids)
    trained = text_of(tokenizer, [label for label in by_name.labels if label != MASKED])
    assert '<tool_call>\n{"name": "look", "arguments": {"at": "é"}}\n</tool_call><|im_end|>' in trained
    assert "seen" not in trained


# -- the tokenizer's own -----------------------------------------------------------------------------------------------

OWN = TEMPLATES["tokenizer"]


@pytest.mark.parametrize("name", ["cohere", "gemma3", "llama3", "phi", "qwen2_5", "qwen3", "deepseek3"])
def test_a_template_that_marks_responses_is_believed(tokenizer, name):
    tokenizer = carrying(tokenizer, name, official(OFFICIAL[name].removesuffix("_training") + "_training"))
    talk = conversation(*TALKS["long"])
    both = tokenizer.apply_chat_template(messages_of(talk), return_dict=True, return_assistant_tokens_mask=True)
    example = encode_conversation(talk, OWN, tokenizer, 2000, 1)
    assert example.input_ids == both["input_ids"]
    assert [label != MASKED for label in example.labels] == [bool(mark) for mark in both["assistant_masks"]]


@pytest.mark.parametrize("kind", ["tokenizer", "metaspace"])
@pytest.mark.parametrize("system", [None, "Be  brief."])
@pytest.mark.parametrize("name", ["chatml", "yi", "cohere", "gemma3", "llama3", "llama3_1", "qwen2_5", "qwen3_nothink", "llama2"])
def test_a_template_that_marks_nothing_is_trained_on_what_follows_its_generation_prompt(request, name, system, kind):
    tokenizer = carrying(request.getfixturevalue(kind), name)
    talk = conversation("the quick fox", "jumps", "Bye", "So long 日本語", system=system)
    by_itself = encode_conversation(talk, OWN, tokenizer, 2000, 1)
    by_name = encode_conversation(talk, TEMPLATES[name], tokenizer, 2000, 1)
    assert by_itself.input_ids == applied(tokenizer, name, talk)
    assert by_itself.labels == by_name.labels
    assert by_itself.n_bytes == by_name.n_bytes


def test_a_turn_that_is_written_otherwise_when_more_follow_is_refused_by_its_row(tokenizer):
    tokenizer = carrying(tokenizer, "qwen3", official("qwen3"))
    one = encode_conversation(conversation("Hi", "Ho"), OWN, tokenizer, 2000, 1)
    assert text_of(tokenizer, one.input_ids).endswith("<think>\n\n</think>\n\nHo<|im_end|>\n")
    with pytest.raises(JobFailure, match=r"it\.json, row 1: the tokenizer's chat template writes a turn otherwise") as caught:
        encode_conversation(conversation("Hi", "Ho", "Bye", "So long"), OWN, tokenizer, 2000, 1)
    assert caught.value.reason == Reason.BAD_ROW


def test_what_the_template_itself_refuses_is_told_with_its_row(tokenizer):
    tokenizer = carrying(tokenizer, "gemma")
    with pytest.raises(JobFailure, match=r"it\.json, row 1: the tokenizer's chat template refuses it: System role") as caught:
        encode_conversation(conversation("Hi", "Ho", system="S"), OWN, tokenizer, 2000, 1)
    assert caught.value.where == {"file": "it.json", "row": 1}


def test_a_tokenizer_without_a_chat_template_has_none_to_use(tokenizer):
    with pytest.raises(JobFailure, match="it has none: name one of the templates") as caught:
        encode_conversation(conversation("Hi", "Ho"), OWN, tokenizer, 2000, 1)
    assert caught.value.reason == Reason.BAD_MODEL
