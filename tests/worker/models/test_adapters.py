import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from service.specs.finetuning import FinetuningArguments
from service.specs.reasons import Reason
from worker.failures import JobFailure
from worker.models.adapters import prepare, trainable_parameters

MLP = ("gate_proj", "up_proj", "down_proj")
ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")


def prepared(model, gradient_checkpointing=False, **arguments):
    return prepare(model, FinetuningArguments(**arguments), gradient_checkpointing)


def trainable_names(model) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def adapted(model) -> set[str]:
    """The layers that have an adapter, by their last names."""
    return {name.split(".lora_A")[0].rpartition(".")[2] for name in trainable_names(model) if ".lora_A" in name}


def refusal(model, **arguments) -> str:
    with pytest.raises(JobFailure) as caught:
        prepared(model, **arguments)
    assert caught.value.reason == Reason.BAD_MODEL
    return caught.value.sentence


@pytest.fixture
def deep(make_llama):
    """32 layers, so that there are layers 1, 11 and 31."""
    return make_llama(num_hidden_layers=32, hidden_size=8, intermediate_size=8, num_attention_heads=2)


def freeze(model, number, modules="mlp"):
    return prepared(model, finetuning_type="freeze", num_layer_trainable=number, name_module_trainable=modules)


def test_full_trains_everything(make_llama):
    model = prepared(make_llama(), finetuning_type="full")
    assert trainable_names(model) == {name for name, _ in model.named_parameters()}


@pytest.mark.parametrize(("number", "layers"), [(3, (29, 30, 31)), (-3, (0, 1, 2)), (1, (31,)), (-2, (0, 1)), (32, range(32))])
def test_freeze_trains_exactly_the_mlps_of_the_last_or_first_layers(deep, number, layers):
    expected = {f"model.layers.{layer}.mlp.{part}.weight" for layer in layers for part in MLP}
    assert trainable_names(freeze(deep, number)) == expected


def test_freeze_takes_several_modules_and_parts_of_them(deep):
    names = trainable_names(freeze(deep, -1, "self_attn.q_proj, input_layernorm"))
    assert names == {"model.layers.0.self_attn.q_proj.weight", "model.layers.0.input_layernorm.weight"}


def test_freeze_all_trains_whole_layers(deep):
    names = trainable_names(freeze(deep, 1, "all"))
    assert names == {name for name, _ in deep.named_parameters() if name.startswith("model.layers.31.")}


def test_freeze_matches_whole_names(make_llama):
    model = make_llama()
    for layer in model.model.layers:
        layer.mlp_norm = torch.nn.Linear(2, 2)
    assert not [name for name in trainable_names(freeze(model, 1)) if "mlp_norm" in name]


def test_a_module_that_no_layer_has_is_refused_with_the_choices(make_llama):
    assert refusal(make_llama(), finetuning_type="freeze", num_layer_trainable=1, name_module_trainable="mlp, ml") == (
        "The model has no module ml for name_module_trainable; there are: "
        "all, input_layernorm, mlp, post_attention_layernorm, self_attn."
    )


def test_more_layers_than_there_are_are_refused(make_llama):
    assert "has 2 layers only" in refusal(make_llama(), finetuning_type="freeze", num_layer_trainable=3)


def test_lora_adapts_every_linear_layer_but_the_head(make_llama):
    model = prepared(make_llama(), lora_rank=4)
    assert adapted(model) == {*MLP, *ATTENTION}
    assert all(".lora_" in name for name in trainable_names(model))


@pytest.mark.parametrize(("target", "expected"), [("all", (*MLP, *ATTENTION)), ("q_proj, v_proj", ("q_proj", "v_proj"))])
def test_lora_trains_rank_times_in_plus_out(make_llama, target, expected):
    base = make_llama()
    shapes = [m.weight.shape for name, m in base.named_modules() if name.rpartition(".")[2] in expected]
    total = sum(parameter.numel() for parameter in base.parameters())
    model = prepared(base, lora_rank=4, lora_target=target)
    count = sum(4 * (rows + columns) for rows, columns in shapes)
    assert trainable_parameters(model) == (count, total + count)
    assert adapted(model) == set(expected)


def test_lora_has_the_numbers_that_were_asked_for(make_llama):
    config = prepared(make_llama(), lora_rank=4, lora_dropout=0.25).peft_config["default"]
    assert (config.r, config.lora_alpha, config.lora_dropout) == (4, 8, 0.25)
    assert prepared(make_llama(), lora_rank=4, lora_alpha=5).peft_config["default"].lora_alpha == 5


TOKENS = torch.arange(2, 22).reshape(2, 10)


def logits(model) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(input_ids=TOKENS).logits


def test_a_fresh_adapter_changes_nothing_merged_or_not(make_llama):
    expected = logits(make_llama())
    model = prepared(make_llama())
    assert torch.equal(logits(model), expected)
    assert torch.equal(logits(model.merge_and_unload()), expected)


def test_a_trained_adapter_merges_into_what_it_computed(make_llama):
    model = prepared(make_llama())
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    apart = logits(model)
    assert not torch.allclose(apart, logits(make_llama()), atol=1e-3)
    assert torch.allclose(logits(model.merge_and_unload()), apart, atol=1e-5)


def test_additional_modules_are_trained_in_full_and_saved_in_the_adapter(make_llama, tmp_path):
    model = prepared(make_llama(), additional_target="embed_tokens, lm_head", lora_target="q_proj")
    whole = {name for name in trainable_names(model) if ".lora_" not in name}
    assert {name.split(".modules_to_save")[0].rpartition(".")[2] for name in whole} == {"embed_tokens", "lm_head"}
    model.save_pretrained(tmp_path)
    saved = load_file(tmp_path / "adapter_model.safetensors")
    assert {name for name in saved if ".lora_" not in name} == {
        "base_model.model.model.embed_tokens.weight",
        "base_model.model.lm_head.weight",
    }


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # peft's own call
def test_a_head_that_is_tied_to_the_embeddings_stays_tied_when_they_are_trained(make_llama, tmp_path):
    model = prepared(make_llama(tie_word_embeddings=True), additional_target="embed_tokens", lora_target="q_proj")
    gradients(model)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter -= parameter.grad
    expected = logits(model)
    assert not torch.allclose(expected, logits(make_llama(tie_word_embeddings=True)), atol=1e-3)
    assert torch.equal(model.get_output_embeddings().weight, model.get_input_embeddings().weight)
    model.save_pretrained(tmp_path)
    again = PeftModel.from_pretrained(make_llama(tie_word_embeddings=True), tmp_path)
    assert torch.allclose(logits(again), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            {"lora_target": "q_proj, W_pack"},
            "The model has no module W_pack for lora_target; there are: "
            "down_proj, embed_tokens, gate_proj, k_proj, lm_head, o_proj, q_proj, up_proj, v_proj.",
        ),
        ({"lora_target": "proj"}, "no module proj for lora_target"),
        ({"lora_target": "all, W_pack"}, "no module W_pack for lora_target"),
        ({"lora_target": "mlp"}, "no module mlp for lora_target"),
        ({"additional_target": "embed_tokens, wte"}, "no module wte for additional_target"),
    ],
)
def test_a_target_that_the_model_lacks_is_refused_with_the_choices(make_llama, arguments, says):
    assert says in refusal(make_llama(), **arguments)


@pytest.mark.parametrize("finetuning_type", ["lora", "freeze", "full"])
def test_what_trains_is_fp32_and_what_does_not_stays_as_it_was(make_llama, finetuning_type):
    base = make_llama().to(torch.bfloat16)
    model = prepared(base, finetuning_type=finetuning_type, num_layer_trainable=1)
    types = {parameter.requires_grad: parameter.dtype for parameter in model.parameters()}
    expected = {True: torch.float32, False: torch.bfloat16}
    assert types == {trains: expected[trains] for trains in types}


def gradients(model) -> dict[str, torch.Tensor]:
    model.train()
    model(input_ids=TOKENS, labels=TOKENS).loss.backward()
    return {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}


@pytest.mark.parametrize("finetuning_type", ["lora", "freeze", "full"])
@pytest.mark.parametrize("additional_target", [None, "embed_tokens"])
def test_gradients_are_equal_with_and_without_checkpointing(make_llama, finetuning_type, additional_target):
    arguments = {"finetuning_type": finetuning_type, "num_layer_trainable": 1}
    if finetuning_type == "lora":
        arguments["additional_target"] = additional_target
    kept = prepared(make_llama(), **arguments)
    again = prepared(make_llama(), gradient_checkpointing=True, **arguments)
    again.load_state_dict(kept.state_dict())
    expected, found = gradients(kept), gradients(again)
    assert found.keys() == expected.keys() == trainable_names(kept)
    assert all(torch.allclose(found[name], expected[name], atol=1e-7) for name in expected)


def test_checkpointing_runs_the_layers_twice_and_needs_no_cache(make_llama):
    calls = []
    model = prepared(make_llama(), gradient_checkpointing=True)
    assert model.config.use_cache is False
    mlp = model.get_base_model().model.layers[0].mlp
    mlp.register_forward_pre_hook(lambda *_: calls.append("forward"))
    gradients(model)
    assert calls == ["forward", "forward"]


class Packed(torch.nn.Module):
    """As the libraries that read GPTQ hold a linear layer: of a class of their own, its weight in packed integers."""

    def __init__(self, linear):
        super().__init__()
        self.register_buffer("qweight", torch.zeros(linear.in_features // 8, linear.out_features, dtype=torch.int32))


def packed(model):
    for name, module in list(model.named_modules()):
        if isinstance(module, torch.nn.Linear) and name != "lm_head":
            parent, _, last = name.rpartition(".")
            setattr(model.get_submodule(parent), last, Packed(module))
    return model


def test_lora_adapts_every_packed_layer_of_a_gptq_checkpoint(make_llama, monkeypatch):
    asked = []
    monkeypatch.setattr("worker.models.adapters.get_peft_model", lambda model, config: asked.append(config) or PeftModelStub())
    linear = {name for name, module in make_llama().named_modules() if isinstance(module, torch.nn.Linear)} - {"lm_head"}
    with pytest.raises(Stop):
        prepared(packed(make_llama()))
    assert asked[0].target_modules == linear
    with pytest.raises(Stop):
        prepared(packed(make_llama()), lora_target=("q_proj",))
    assert asked[1].target_modules == {"q_proj"}
    assert "q_proj" in refusal(packed(make_llama()), lora_target=("wqkv",))


class Stop(Exception):
    pass


class PeftModelStub:
    """What comes after the adapter was asked for is not what the test is about."""

    def __getattr__(self, name):
        raise Stop


@pytest.mark.long
def test_a_gptq_checkpoint_trains_an_adapter(make_llama, tmp_path, monkeypatch):
    monkeypatch.setenv("GPTQMODEL_CPU_WORKERS", "2")
    gptqmodel = pytest.importorskip("gptqmodel", reason="the extra gptq is not installed")
    make_llama().save_pretrained(tmp_path / "whole")
    model = gptqmodel.GPTQModel.load(str(tmp_path / "whole"), gptqmodel.QuantizeConfig(bits=4, group_size=16))
    rows = [torch.randint(0, 32, (64,), generator=torch.Generator().manual_seed(n)).tolist() for n in range(32)]
    model.quantize([{"input_ids": row, "attention_mask": [1] * len(row)} for row in rows], batch_size=4)
    model.save(str(tmp_path / "packed"))
    trained = prepared(AutoModelForCausalLM.from_pretrained(tmp_path / "packed"), lora_rank=4)
    ids = torch.tensor(rows[:4])
    optimizer = torch.optim.AdamW([it for it in trained.parameters() if it.requires_grad], lr=1e-2)
    losses = []
    for _ in range(8):
        loss = trained(input_ids=ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.05
    assert all("lora_" in name for name in trainable_names(trained))
