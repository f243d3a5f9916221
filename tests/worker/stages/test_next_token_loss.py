"""Logits only where a token is trained: loss and gradients are the model's own, and a model that makes another loss keeps it."""

import copy

import pytest
import torch
from transformers import (
    CohereConfig,
    CohereForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    MixtralConfig,
    MixtralForCausalLM,
)

from service.specs.finetuning import FinetuningArguments
from service.specs.training import TrainingArguments
from tests.worker.stages.attempts import a_job, a_pretraining_job
from worker.data.collate import Collator
from worker.models.adapters import prepare
from worker.stages import next_token_loss as under_test
from worker.stages.next_token_loss import CHUNK, NextTokenLoss, WithoutLogits, keep_last_activations, next_token_loss

PLAIN = TrainingArguments()
SMALL = {"vocab_size": 64, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}


def rows(lengths):
    """Of each text the first third is a prompt."""
    draw = torch.Generator().manual_seed(1)
    texts = [torch.randint(3, 300, (length,), generator=draw).tolist() for length in lengths]
    return [{"input_ids": text, "labels": [-100] * (len(text) // 3) + text[len(text) // 3 :]} for text in texts]


def gradients(model):
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None}


def both_ways(model, batch, num_items):
    """(loss, gradients) of the model's own, and of ours."""
    own = copy.deepcopy(model)
    own_loss = own(**batch, use_cache=False, num_items_in_batch=num_items).loss
    own_loss.backward()
    asked = WithoutLogits(lambda rows: {**batch})([])
    labels = asked.pop("labels")
    loss = next_token_loss(model, PLAIN)
    made = loss(model(**asked, use_cache=False), labels, num_items_in_batch=num_items)
    made.backward()
    return (own_loss, gradients(own)), (made, gradients(model))


@pytest.mark.parametrize("adapted", [False, True], ids=["full", "lora"])
@pytest.mark.parametrize("lengths", [(9, 30, 17), (200, 256, 90)], ids=["few tokens", "more than a chunk"])
@pytest.mark.parametrize("num_items", [None, 1000], ids=["alone", "a part of an update"])
def test_loss_and_gradients_are_the_models_own(make_llama, adapted, lengths, num_items):
    model = make_llama()
    if adapted:
        model = prepare(model, FinetuningArguments(lora_rank=2), gradient_checkpointing=False)
        torch.manual_seed(1)
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter)  # at zero, nothing would reach A
    batch = Collator(pad_id=0)(rows(lengths))
    assert (int((batch["labels"][:, 1:] != -100).sum()) > CHUNK) == (lengths[0] == 200)
    (own_loss, own), (made_loss, made) = both_ways(model, batch, num_items)
    torch.testing.assert_close(made_loss, own_loss, rtol=1e-6, atol=1e-6)
    assert own.keys() == made.keys()
    for name in own:
        torch.testing.assert_close(made[name], own[name], rtol=1e-4, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}")


def test_gradients_are_the_models_own_where_activations_are_computed_again(make_llama):
    model = make_llama()
    model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
    (_, own), (_, made) = both_ways(model.train(), Collator(pad_id=0)(rows((40, 60))), None)
    for name in own:
        torch.testing.assert_close(made[name], own[name], rtol=1e-4, atol=1e-6)


def test_the_last_layer_is_not_computed_again_and_the_gradients_are_the_same(make_llama):
    passes = []
    own, made = make_llama(num_hidden_layers=3).train(), make_llama(num_hidden_layers=3).train()
    for number, layer in enumerate(made.model.layers):
        layer.mlp.register_forward_pre_hook(lambda *_, number=number: passes.append(number))
    for model in (own, made):
        model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
    keep_last_activations(made)
    batch = Collator(pad_id=0)(rows((40, 60)))
    for model in (own, made):
        model(**batch, use_cache=False).loss.backward()
    assert sorted(passes) == [0, 0, 1, 1, 2]
    for name, gradient in gradients(own).items():
        assert torch.equal(gradients(made)[name], gradient), name


def test_without_checkpointing_no_layer_is_touched(make_llama):
    model = make_llama()
    keep_last_activations(model)
    assert not any("gradient_checkpointing" in vars(layer) for layer in model.model.layers)


def test_a_batch_with_nothing_to_train_has_a_loss_of_zero(make_llama):
    model = make_llama()
    batch = {"input_ids": torch.tensor([[5, 6, 7]]), **under_test.INSTEAD_OF_LOGITS}
    loss = next_token_loss(model, PLAIN)(model(**batch), torch.full((1, 3), -100), num_items_in_batch=4)
    loss.backward()
    assert loss.item() == 0


def test_other_losses_than_that_of_the_next_token_are_left_to_the_trainer(make_llama):
    assert next_token_loss(make_llama(), TrainingArguments(label_smoothing_factor=0.1)) is None


def test_a_model_that_ranks_hold_in_parts_makes_its_logits_itself(make_llama):
    assert next_token_loss(make_llama(), TrainingArguments(fsdp=True)) is None


@pytest.mark.parametrize(("scale", "used"), [(0.25, False), (1.0, True)])
def test_models_that_scale_their_logits_make_them_themselves(scale, used):
    assert (next_token_loss(CohereForCausalLM(CohereConfig(**SMALL, logit_scale=scale)), PLAIN) is not None) == used


@pytest.mark.parametrize(("cap", "used"), [(30.0, False), (None, True)])
def test_models_that_cap_their_logits_make_them_themselves(cap, used):
    shape = SMALL | {"num_key_value_heads": 2, "head_dim": 8}
    assert (next_token_loss(Gemma2ForCausalLM(Gemma2Config(**shape, final_logit_softcapping=cap)), PLAIN) is not None) == used


def test_models_whose_head_does_more_than_their_config_says_make_their_logits_themselves(make_llama):
    model = make_llama()
    model.lm_head.register_forward_hook(lambda module, args, logits: logits * torch.linspace(0, 2, logits.shape[-2])[:, None])
    assert next_token_loss(model, PLAIN) is None


def test_models_whose_loss_has_more_terms_make_it_themselves():
    experts = {"num_local_experts": 2, "num_experts_per_tok": 1, "num_key_value_heads": 2}
    model = MixtralForCausalLM(MixtralConfig(**SMALL, **experts, output_router_logits=True))
    assert next_token_loss(model.to(torch.bfloat16), PLAIN) is None, "so coarse that a few tokens would not tell"


def test_gpt2_is_trained_so_too():
    model = GPT2LMHeadModel(GPT2Config(vocab_size=300, n_positions=256, n_embd=16, n_layer=1, n_head=2))
    (own_loss, _), (made_loss, _) = both_ways(model.eval(), Collator(pad_id=0)(rows((20, 30))), None)
    torch.testing.assert_close(made_loss, own_loss)


@pytest.mark.parametrize(
    "job",
    [
        a_job(training={"max_steps": 1, "save_steps": 1}),
        a_job(data={"sft_packing": True}, training={"max_steps": 1, "save_steps": 1}),
        a_pretraining_job(training={"max_steps": 1, "save_steps": 1}),
    ],
    ids=["sft", "sft packed", "pt"],
)
def test_the_stages_make_no_logits_but_those_that_train(host, monkeypatch, job):
    seen = []
    own = NextTokenLoss.__call__
    monkeypatch.setattr(
        NextTokenLoss,
        "__call__",
        lambda self, outputs, *a, **k: seen.append(outputs.logits.shape[1]) or own(self, outputs, *a, **k),
    )
    host.done(job | {"measures": {"names": ""}})
    assert seen[1:] == [1], "all of them once to compare, and one for the update"


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_a_head_in_half_precision_takes_the_hidden_states_that_autocast_hands_on_in_fp32(make_llama, half):
    """An adapter on a GPU trains on a base in half precision, and the trainer makes fp32 of what its model answers."""
    model = make_llama().to(half)
    batch = Collator(pad_id=0)(rows((9, 30)))
    asked = WithoutLogits(lambda rows: {**batch})([])
    labels, loss = asked.pop("labels"), next_token_loss(model, PLAIN)
    outputs = model(**asked, use_cache=False)
    own = loss(outputs, labels)
    outputs.hidden_states = tuple(hidden.float() for hidden in outputs.hidden_states)
    assert loss(outputs, labels) == own
