"""What a certificate compares with, in half of the memory: the same answers as of the model in fp32."""

import pytest
import torch
from peft import LoraConfig, get_peft_model

from service.specs.read import read_job
from worker.models import widened
from worker.models.assembly import frozen, to_write
from worker.models.start import SavedAdapter, Start

pytestmark = [
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),  # peft's own call
    pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings:UserWarning"),
    pytest.mark.filterwarnings(
        "ignore:Input and output embeddings are no longer tied:UserWarning"
    ),  # one family below wants it so
]

CPU = torch.device("cpu")
TOKENS = torch.arange(2, 22).reshape(2, 10)
WHOLE = ["embed_tokens", "lm_head"]

# (of the model, of each adapter on it in order, and whether it stays in half precision)
CHAINS = {
    "an adapter": ({}, [{}], True),
    "adapters on one another": ({}, [{}, {"r": 3, "use_rslora": True}, {"target_modules": ["q_proj"]}], True),
    "whole modules": ({}, [{"modules_to_save": ["norm", *WHOLE]}], True),
    "whole modules below and above": ({}, [{"modules_to_save": WHOLE}, {"modules_to_save": ["lm_head"]}], True),
    "an addition to what was brought whole": (
        {},
        [{"modules_to_save": ["lm_head"]}, {"target_modules": ["lm_head"], "save_embeddings": False}],
        True,
    ),
    "a vocabulary that grew": ({}, [{"rows": 320, "modules_to_save": WHOLE}, {"rows": 320}], True),
    "one for embeddings and head, that grew": (
        {"tie_word_embeddings": True},
        [{"rows": 320, "modules_to_save": ["embed_tokens"], "ensure_weight_tying": True}],
        True,
    ),
    "embeddings that left their head": ({"tie_word_embeddings": True}, [{"modules_to_save": ["embed_tokens"]}], False),
    "what was brought whole over an addition": (
        {},
        [{"target_modules": ["lm_head"], "save_embeddings": False}, {"modules_to_save": ["lm_head"]}],
        False,
    ),
    "biases below": ({}, [{"bias": "lora_only"}, {}], False),
}


@pytest.fixture
def make_chain(tmp_path, make_llama, tokenizer):
    """A model of half precision in a folder, and adapters that were trained on it, each on those before it."""

    def make(of_model, chain):
        shape = {"initializer_range": 0.3, **of_model}
        make_llama(**shape).to(torch.bfloat16).save_pretrained(tmp_path / "whole")
        adapters = []
        for number, config in enumerate(chain):
            config = {"r": 2, "lora_alpha": 6, "target_modules": "all-linear", **config}
            base = make_llama(**shape)
            if rows := config.pop("rows", 0):
                base.resize_token_embeddings(rows, mean_resizing=False)
            save_embeddings = config.pop("save_embeddings", "auto")
            torch.manual_seed(number)
            model = get_peft_model(base, LoraConfig(task_type="CAUSAL_LM", **config))
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.data = parameter.data + 0.1 * torch.randn_like(parameter)
            model.save_pretrained(tmp_path / f"adapter-{number}", save_embedding_layers=save_embeddings)
            adapters.append(SavedAdapter(str(number), tmp_path / f"adapter-{number}"))
        return Start(tmp_path / "whole", tuple(adapters))

    return make


@torch.no_grad()
def logits(model):
    return model.eval()(input_ids=TOKENS).logits.float()


@pytest.mark.parametrize("chain", CHAINS)
def test_what_was_trained_is_compared_in_half_of_the_room_with_the_same_numbers(make_chain, tokenizer, monkeypatch, chain):
    of_model, configs, is_half = CHAINS[chain]
    monkeypatch.setattr(widened, "_SMALL", 100)
    start = make_chain(of_model, configs).as_trained
    (step,) = read_job({"do": "export", "model": {"model_name_or_path": "whole"}}).resolved.steps
    whole, sparing = (frozen(start, step, tokenizer, CPU, sparing=each) for each in (False, True))
    assert torch.allclose(logits(sparing), logits(whole), atol=2e-5)
    base = frozen(Start(start.whole), step, tokenizer, CPU)
    assert not torch.allclose(logits(whole)[..., :300], logits(base), atol=1e-2), "or this would see no difference"
    held = {parameter.dtype for name, parameter in sparing.named_parameters() if "self_attn" in name and "lora" not in name}
    assert held == {torch.bfloat16 if is_half else torch.float32}
    assert not any(parameter.requires_grad for parameter in sparing.parameters())


@pytest.mark.parametrize("chain", CHAINS)
def test_what_is_written_is_what_was_trained_but_for_its_rounding(make_chain, tokenizer, chain):
    of_model, configs, _ = CHAINS[chain]
    start = make_chain(of_model, configs)
    (step,) = read_job({"do": "export", "model": {"model_name_or_path": "whole"}}).resolved.steps
    trained = frozen(start.as_trained, step, tokenizer, CPU)
    assert torch.allclose(logits(to_write(start, torch.float32)), logits(trained), atol=1e-4)
    half = to_write(start, None)
    assert {tensor.dtype for tensor in half.state_dict().values()} == {torch.bfloat16}
