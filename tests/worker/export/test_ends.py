import pytest
from transformers import GenerationConfig

from worker.data.templates import TEMPLATES, add_tokens
from worker.export.ends import name_ends


@pytest.mark.parametrize(
    ("template", "before", "ends"),
    [
        ("default", None, "</s>"),
        ("default", 1, "</s>"),
        ("default", 2, ["</s>", 2]),
        ("llama3", [1, 2], ["<|eot_id|>", "<|eom_id|>", "</s>", 2]),
        ("qwen", 1, ["<|im_end|>", "</s>"]),
        ("tokenizer", None, "</s>"),
    ],
)
def test_an_answer_ends_as_its_template_trained_it_and_where_the_base_ended(tokenizer, template, before, ends):
    tokenizer.add_tokens(["<|eom_id|>"])
    add_tokens(TEMPLATES[template], tokenizer)
    generation = GenerationConfig(eos_token_id=before)
    name_ends(generation, TEMPLATES[template], tokenizer)
    known = tokenizer.get_vocab()
    assert generation.eos_token_id == (known[ends] if isinstance(ends, str) else [known.get(end, end) for end in ends])
