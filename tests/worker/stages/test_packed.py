import pytest
import torch
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaModel,
    MambaConfig,
    MambaForCausalLM,
    OPTConfig,
    OPTForCausalLM,
)

from service.specs.reasons import Reason
from tests.worker.stages.attempts import a_job, training
from worker.data.packing import PackedCollator
from worker.failures import JobFailure
from worker.stages.packed import refuse_leaks

UNMEASURED = {"names": ""}


def a_packed_job(**groups):
    """Ten rows in blocks of 64 tokens, one block an update."""
    data = {"sft_packing": True} | groups.pop("data", {})
    values = {"per_device_train_batch_size": 1, "max_steps": -1, "num_train_epochs": 1.0} | groups.pop("training", {})
    return a_job(data=data, training=values, **groups)


@pytest.fixture
def batches(monkeypatch):
    """What the model was given in training."""
    seen = []
    forward = LlamaModel.forward

    def spy(self, *arguments, **named):
        if self.training:
            seen.append(named)
        return forward(self, *arguments, **named)

    monkeypatch.setattr(LlamaModel, "forward", spy)
    return seen


def test_blocks_are_trained_and_a_step_has_many_examples_in_one(host, batches):
    attempt = host.done(a_packed_job(measures=UNMEASURED))
    (loaded,), (packed,) = attempt.events("data_loaded"), attempt.events("data_packed")
    blocks, share = packed["data"]["blocks"], packed["data"]["padding_share"]
    assert (packed["data"]["examples"], blocks) == (10, len(batches)) == (10, list(attempt.points())[-1])
    assert loaded["data"]["tokens"] == round(blocks * 64 * (1 - share))
    assert (
        packed["text"]
        == f"sft: 10 examples are packed into {blocks} blocks of 64 tokens, of which {100 * share:.1f} % are padding."
    )
    assert {tuple(batch["input_ids"].shape) for batch in batches} == {(1, 64)}
    assert all(batch.get("attention_mask") is None for batch in batches), "a mask would let examples see each other"
    starts = sum(int((batch["position_ids"] == 0).sum()) for batch in batches)
    assert starts in range(10, 10 + blocks + 1), "one for each example, and one for the padding of a block"


def test_tokens_are_counted_without_padding_and_with_every_eos(host):
    attempt = host.done(a_packed_job(measures=UNMEASURED))
    assert list(attempt.points().values())[-1]["tokens"] == attempt.events("data_loaded")[0]["data"]["tokens"]


def test_one_update_on_all_blocks_is_one_update_on_all_rows(host):
    """The loss weighs tokens alike, so how they are batched does not matter."""
    full = {"finetuning": {"finetuning_type": "full"}, "measures": UNMEASURED}
    values = {"per_device_train_batch_size": 16, "max_steps": 1, "optim": "sgd"}
    packed = host.done(a_packed_job(training=values) | full)
    apart = host.done(a_job(training=training(**values)) | full)
    assert packed.losses() == pytest.approx(apart.losses(), rel=1e-5)
    assert packed.points()[1]["grad_norm"] == pytest.approx(apart.points()[1]["grad_norm"], rel=1e-5)
    ours, theirs = host.weights(packed), host.weights(apart)
    assert all(torch.allclose(ours[name], theirs[name], atol=1e-6) for name in theirs)


@pytest.mark.parametrize("model", [{}, {"disable_gradient_checkpointing": True}])
def test_examples_stay_apart_with_and_without_gradient_checkpointing(host, model):
    values = {"per_device_train_batch_size": 16, "max_steps": 1}
    packed = host.done(a_packed_job(training=values, model=model, measures=UNMEASURED))
    assert packed.losses() == pytest.approx(host.done(a_job(training=values, measures=UNMEASURED)).losses(), rel=1e-5)


def test_what_is_measured_is_not_packed(host):
    packed, apart = (
        host.done(job(training={"max_steps": 1, "per_device_train_batch_size": 16})) for job in (a_packed_job, a_job)
    )
    before = [attempt.of("measurement")[0]["documents"] for attempt in (packed, apart)]
    assert before[0] == before[1]
    assert packed.rows()[1, "cross_entropy"]["n_documents"] == 2


def test_padding_weighs_in_the_loss_unless_it_is_ignored(host):
    ignored, learned = (
        host.done(a_packed_job(measures=UNMEASURED, data={"ignore_pad_token_for_loss": ignore})).losses()
        for ignore in (True, False)
    )
    assert ignored[0] != pytest.approx(learned[0], rel=1e-4)


# -- models that would let examples see each other ---------------------------------------------------------------------

SMALL = {"vocab_size": 100, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
LEAKING = {
    "bloom": lambda: BloomForCausalLM(BloomConfig(vocab_size=100, hidden_size=32, n_layer=2, n_head=4)),
    "opt": lambda: OPTForCausalLM(OPTConfig(**SMALL, ffn_dim=64, max_position_embeddings=64, word_embed_proj_dim=32)),
    "mamba": lambda: MambaForCausalLM(MambaConfig(vocab_size=100, hidden_size=32, num_hidden_layers=2)),
}


@pytest.mark.parametrize("family", LEAKING)
def test_a_model_in_which_examples_see_each_other_is_refused(family):
    torch.manual_seed(0)
    model = LEAKING[family]().train()
    with pytest.raises(JobFailure, match=f"family {family}, examples that are packed into one block would see") as caught:
        refuse_leaks(model, PackedCollator(pad_id=1, cutoff_len=64))
    assert caught.value.reason == Reason.BAD_MODEL
    assert model.training, "as it was"


@pytest.mark.parametrize("flat", [False, True])
def test_a_model_that_reads_positions_is_not(make_llama, flat):
    torch.manual_seed(0)
    gpt2 = GPT2LMHeadModel(
        GPT2Config(vocab_size=100, n_embd=32, n_layer=2, n_head=4, n_positions=64, bos_token_id=1, eos_token_id=1)
    )
    for model in (make_llama(), gpt2):
        refuse_leaks(model.train(), PackedCollator(pad_id=1, cutoff_len=64, flat=flat))


def test_a_leak_stops_the_job_before_it_trains(host):
    torch.manual_seed(0)
    host.add_model("opt", OPTForCausalLM(OPTConfig(**SMALL | {"vocab_size": 300}, ffn_dim=64, word_embed_proj_dim=32)))
    attempt = host.attempt(a_packed_job(model={"model_name_or_path": "opt"}, measures=UNMEASURED))
    assert attempt.error.sentence.endswith("set data.sft_packing to false.")
    assert attempt.of("points") == []
