"""Whole dpo steps: what the first update must cost, what is trained and told, and what the reference is."""

import math

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from service.specs.data import DataArguments
from service.specs.measures import MeasureArguments
from service.specs.reasons import Reason
from tests.worker.stages.attempts import a_job, a_preference_job, changed
from worker.data.collate import Collator, JudgedCollator, PairCollator, features
from worker.data.load import Places, Wanted, load_judged, load_pairs
from worker.data.tokenize import MASKED
from worker.models.loading import load_tokenizer

pytestmark = [
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),  # peft's own call
    pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to False"),  # peft's way to say that it has seen a GPT-2
]

# The first three losses of `a_preference_job()`, as they were when this test was written: torch 2.13 on a CPU, transformers
# 5.24, peft 0.21. The first is ln 2; the others were not derived, only seen.
GOLDEN = (math.log(2), 0.679195, 0.661562)

FULL = {"finetuning_type": "full"}
FREEZE = {"finetuning_type": "freeze", "num_layer_trainable": 1}
UNMEASURED = {"names": ""}
ONE = {"max_steps": 1}
# All ten training pairs in one batch.
WHOLE = {"max_steps": 1, "per_device_train_batch_size": 10}
REWARDS = {"rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies", "logps/chosen", "logps/rejected"}


def a_run(host, finetuning=None, **groups):
    """A job that is not measured, done."""
    return host.done(a_preference_job(finetuning=finetuning or {}, measures=UNMEASURED, **groups))


def first_loss(host, finetuning=None, **groups):
    return a_run(host, finetuning, training={**ONE, **groups.pop("training", {})}, **groups).losses()[0]


def training_pairs(host):
    data = DataArguments(template="default", dataset="better", val_size=2, cutoff_len=64)
    places = Places(host.datasets, host.root)
    return load_pairs(places, Wanted("dpo", data, MeasureArguments(), seed=42), load_tokenizer(host.models / "tiny"))


def answers_log_probs(host, model):
    """(log p of each chosen answer, of each rejected one, tokens of each chosen one), text by text and token by token."""
    found = {"chosen": [], "rejected": []}
    lengths = []
    for pair in training_pairs(host).train:
        for side, values in found.items():
            example = getattr(pair, side)
            with torch.no_grad():
                log_probs = model(input_ids=torch.tensor([example.input_ids])).logits[0].log_softmax(-1)
            scored = [t for t, label in enumerate(example.labels) if label != MASKED]
            values.append(sum(float(log_probs[t - 1, example.input_ids[t]]) for t in scored))
        lengths.append(sum(label != MASKED for label in pair.chosen.labels))
    return torch.tensor(found["chosen"]), torch.tensor(found["rejected"]), torch.tensor(lengths)


# -- what an update costs ------------------------------------------------------------------------------------------------


def test_the_losses_of_a_seeded_model_are_what_they_were(host):
    attempt = host.done(a_preference_job())
    assert attempt.losses()[:3] == pytest.approx(GOLDEN, rel=1e-4)
    assert attempt.measured() == [None, 2, 4]
    (step,) = attempt.of("step")
    assert (step["step"], step["output"], step["summary"]["updates"]) == ("dpo", "job-1/1/dpo/checkpoint-4", 4)


@pytest.mark.parametrize("finetuning", [{}, FULL, FREEZE], ids=["lora", "full", "freeze"])
@pytest.mark.parametrize(
    ("loss", "beta", "expected"),
    [
        ("sigmoid", 0.1, math.log(2)),
        ("hinge", 0.1, 1),
        ("ipo", 0.1, 25),
        ("ipo", 0.5, 1),
        ("kto", 0.1, 0.5),
        ("kto_pair", 0.1, 0.5),
    ],
)
def test_before_anything_is_learned_a_loss_has_its_closed_form(host, finetuning, loss, beta, expected):
    assert first_loss(host, finetuning | {"dpo_loss": loss, "dpo_beta": beta}) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    "groups",
    [
        {"model": {"quantization_bit": 4}},
        {"model": {"quantization_bit": 8}},
        {"model": {"shift_attn": True}, "data": {"cutoff_len": 24}},
        {"training": {"bf16": True}},
        {"finetuning": {"lora_dropout": 0.5}},
        {"finetuning": FULL, "training": {"bf16": True}},
        {"finetuning": {"additional_target": "lm_head"}},
    ],
    ids=str,
)
def test_so_it_has_however_the_model_computes(host, groups):
    assert first_loss(host, **groups) == pytest.approx(math.log(2), rel=1e-6)


@pytest.mark.parametrize("bits", [4, 8])
def test_only_the_adapter_of_a_quantized_model_learns(host, bits):
    attempt = a_run(host, model={"quantization_bit": bits})
    assert all(".lora_A." in name or ".lora_B." in name for name in host.weights(attempt))
    assert attempt.losses()[-1] < math.log(2)
    assert next(event["data"]["quantization"] for event in attempt.events("model_loaded")) == "bitsandbytes"


@pytest.mark.parametrize("finetuning", [{}, FULL], ids=["lora", "full"])
def test_a_models_own_dropout_is_off_and_an_adapters_is_not(host, finetuning):
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=300, n_positions=64, n_embd=32, n_layer=2, n_head=4, resid_pdrop=0.5, embd_pdrop=0.5)
    host.add_model("dropping", GPT2LMHeadModel(config))
    on_it = {"model": {"model_name_or_path": "dropping"}}
    assert first_loss(host, finetuning, **on_it) == pytest.approx(math.log(2), rel=1e-6)
    if not finetuning:
        without, with_it = (a_run(host, {"lora_dropout": share}).losses() for share in (0, 0.5))
        assert with_it[1] != pytest.approx(without[1], rel=1e-4)


def test_the_series_are_of_the_answers_and_of_nothing_else(host):
    attempt = a_run(host, training=WHOLE)
    chosen, rejected, _ = answers_log_probs(host, AutoModelForCausalLM.from_pretrained(host.models / "tiny"))
    point = attempt.points()[1]
    assert set(point) == REWARDS | {"loss", "learning_rate", "grad_norm", "tokens", "tokens_per_second"}
    assert point["logps/chosen"] == pytest.approx(float(chosen.mean()), rel=1e-5)
    assert point["logps/rejected"] == pytest.approx(float(rejected.mean()), rel=1e-5)
    assert [point[f"rewards/{name}"] for name in ("chosen", "rejected", "margins", "accuracies")] == [0, 0, 0, 0]


def test_dpo_ftx_adds_the_mean_over_the_pairs_of_the_chosen_answers_nll_per_token(host):
    attempt = a_run(host, {"dpo_ftx": 0.25}, training=WHOLE)
    chosen, _, lengths = answers_log_probs(host, AutoModelForCausalLM.from_pretrained(host.models / "tiny"))
    nll = float((-chosen / lengths).mean())
    assert attempt.losses()[0] == pytest.approx(math.log(2) + 0.25 * nll, rel=1e-5)
    point = attempt.points()[1]
    assert (point["loss/preference"], point["loss/sft"]) == pytest.approx((math.log(2), nll), rel=1e-5)


def test_a_point_is_the_mean_of_its_window_in_every_series(host):
    single = a_run(host).points()
    both = a_run(host, training={"logging_steps": 2}).points()
    for name in REWARDS:
        assert both[2][name] == pytest.approx((single[1][name] + single[2][name]) / 2, rel=1e-5), name


def test_accumulated_batches_are_one_batch(host):
    at_once = a_run(host, training={"per_device_train_batch_size": 4, "max_steps": 2}).points()
    in_parts = a_run(host, training={"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2, "max_steps": 2}).points()
    for name in (*REWARDS, "loss", "grad_norm", "tokens"):
        assert in_parts[2][name] == pytest.approx(at_once[2][name], rel=1e-4, abs=1e-6), name


@pytest.mark.parametrize("finetuning", [{}, FULL, FREEZE | {"num_layer_trainable": 2}], ids=["lora", "full", "freeze"])
def test_the_chosen_answers_win(host, finetuning):
    values = {"learning_rate": 2e-2, "max_steps": 16, "save_steps": 16, "per_device_train_batch_size": 5}
    points = a_run(host, finetuning, training=values).points()
    assert points[16]["rewards/accuracies"] == 1
    assert points[16]["rewards/margins"] > 0.3
    assert points[16]["loss"] < 0.85 * math.log(2)


def test_only_what_trains_changes(host):
    start = load_file(host.models / "tiny" / "model.safetensors")
    adapter = host.weights(a_run(host))
    assert all(".lora_A." in name or ".lora_B." in name for name in adapter)
    frozen_but = {f"model.layers.1.mlp.{part}_proj.weight" for part in ("gate", "up", "down")}
    assert changed(start, host.weights(a_run(host, FREEZE))) == frozen_but
    assert changed(start, load_file(host.models / "tiny" / "model.safetensors")) == set()


@pytest.mark.parametrize("values", [{"gradient_accumulation_steps": 2}, {"learning_rate": 5e-3}, {"neftune_noise_alpha": 5.0}])
def test_training_arguments_act_here_too(host, values):
    assert a_run(host, training=values).losses()[:3] != pytest.approx(GOLDEN, rel=1e-4)


def test_pairs_are_grouped_streamed_and_cached_as_conversations_are(host):
    grouped = a_run(host, training={"group_by_length": True})
    streamed = a_run(host, data={"streaming": True, "buffer_size": 4})
    cached = [a_run(host, data={"cache_path": "mine"}) for _ in range(2)]
    for attempt in (grouped, streamed, *cached):
        assert attempt.losses()[0] == pytest.approx(math.log(2), rel=1e-6)
        assert len(attempt.losses()) == 4
    assert cached[0].losses() == cached[1].losses() == pytest.approx(a_run(host).losses())


# -- what it is held against ---------------------------------------------------------------------------------------------


def test_a_reference_that_is_named_is_the_one_that_answers_are_held_against(host, make_llama):
    host.add_model("other", make_llama(seed=1))
    attempt = a_run(host, {"ref_model": "other"}, training=WHOLE)
    own = answers_log_probs(host, AutoModelForCausalLM.from_pretrained(host.models / "tiny"))
    ref = answers_log_probs(host, AutoModelForCausalLM.from_pretrained(host.models / "other"))
    chosen, rejected = own[0] - ref[0], own[1] - ref[1]
    point = attempt.points()[1]
    assert point["rewards/chosen"] == pytest.approx(0.1 * float(chosen.mean()), rel=1e-4)
    assert point["rewards/margins"] == pytest.approx(0.1 * float((chosen - rejected).mean()), rel=1e-4)
    assert point["rewards/accuracies"] == pytest.approx(float((chosen > rejected).float().mean()))
    assert point["loss"] == pytest.approx(float(-torch.nn.functional.logsigmoid(0.1 * (chosen - rejected)).mean()), rel=1e-4)


def add_adapter(host, name):
    """An adapter that has learned `pets`, among the operator's."""
    made = host.folder(host.done(a_job(measures=UNMEASURED)))
    made.rename(host.models / name)


def test_the_adapters_of_a_reference_lie_on_it(host):
    """The model with the adapter is held against itself only where the reference has the adapter too."""
    add_adapter(host, "polite")
    on_it = {"adapter_name_or_path": "polite"}
    new = {"create_new_adapter": True, "ref_model": "tiny"}
    without = first_loss(host, new, model=on_it)
    assert without != pytest.approx(math.log(2), rel=1e-3)
    assert first_loss(host, new | {"ref_model_adapters": "polite"}, model=on_it) == pytest.approx(math.log(2), rel=1e-5)


@pytest.mark.parametrize("bits", [4, 8])
def test_a_reference_may_be_quantized(host, bits):
    """Its answers are those of the quantized model, and so near those of the whole one, but not the same."""
    loss = first_loss(host, FULL | {"ref_model": "tiny", "ref_model_quantization_bit": bits})
    assert loss == pytest.approx(math.log(2), rel=0.2)
    assert loss != pytest.approx(math.log(2), rel=1e-6)
    quantized = {"model": {"quantization_bit": bits}}
    both = first_loss(host, {"ref_model": "tiny", "ref_model_quantization_bit": bits}, **quantized)
    assert both == pytest.approx(math.log(2), rel=1e-6)


def test_an_adapter_that_training_goes_on_with_is_no_part_of_the_reference_and_a_merged_one_is(host):
    add_adapter(host, "polite")
    on_it = {"adapter_name_or_path": "polite"}
    job = a_preference_job(model=on_it, measures=UNMEASURED, training=ONE)
    job["finetuning"] = {"stage": "dpo"}
    attempt = host.done(job)
    assert attempt.losses()[0] != pytest.approx(math.log(2), rel=1e-3)
    (notice,) = attempt.notices()
    assert notice.startswith("dpo: the reference is the model without the adapter 'polite'")
    merged = a_run(host, {"create_new_adapter": True}, model=on_it, training=ONE)
    assert merged.losses()[0] == pytest.approx(math.log(2), rel=1e-5)
    assert merged.notices() == []


def test_a_reference_with_another_tokenizer_is_refused_before_anything_is_loaded(host, make_llama, tmp_path, tokenizer):
    words = tokenizer.backend_tokenizer
    words.add_tokens(["zebra"])
    PreTrainedTokenizerFast(tokenizer_object=words, bos_token="</s>", eos_token="<s>").save_pretrained(tmp_path / "more")
    host.add_model("wider", make_llama(vocab_size=320), tmp_path / "more")
    assert a_run(host, {"ref_model": "wider"}, training=ONE).losses(), "a tokenizer with more tokens has those of the step"

    swapped = (
        (host.models / "tiny" / "tokenizer.json").read_text().replace('"!"', '"~~"').replace('"~"', '"!"').replace('"~~"', '"~"')
    )
    host.add_model("other", make_llama())
    (host.models / "other" / "tokenizer.json").write_text(swapped)
    attempt = host.attempt(a_preference_job(finetuning={"ref_model": "other"}))
    assert attempt.error.reason == Reason.BAD_MODEL
    assert attempt.error.sentence.startswith("The reference model 'other' has another tokenizer: the token ")
    assert attempt.events("model_loaded") == []


def test_a_reference_may_be_what_an_earlier_step_made(host):
    steps = [
        {"name": "sft", "finetuning": {"stage": "sft"}, "data": {"dataset": "pets"}},
        {"name": "dpo", "finetuning": {"stage": "dpo", "ref_model": "@sft"}, "model": {"model_name_or_path": "@sft"}},
    ]
    job = a_preference_job(measures=UNMEASURED, training={"max_steps": 2})
    job["finetuning"] = {"lora_rank": 2}
    attempt = host.done(job | {"steps": steps})
    assert attempt.losses("dpo")[0] == pytest.approx(math.log(2), rel=1e-5)


# -- measuring and failing -----------------------------------------------------------------------------------------------


def test_the_chosen_answers_of_held_out_pairs_are_measured(host):
    attempt = host.done(a_preference_job(finetuning=FULL))
    evaluation = training_pairs(host)
    model = AutoModelForCausalLM.from_pretrained(host.folder(attempt), local_files_only=True).eval()
    bits, tokens, n_bytes = 0.0, 0, 0
    for pair in evaluation.pairs:
        ids, labels = torch.tensor([pair.chosen.input_ids]), torch.tensor([pair.chosen.labels])
        n = int((labels != MASKED).sum())
        with torch.no_grad():
            bits += float(model(input_ids=ids, labels=labels).loss) * n / math.log(2)
        tokens, n_bytes = tokens + n, n_bytes + pair.chosen.n_bytes
    rows = attempt.rows()
    assert rows[4, "cross_entropy"]["value"] == pytest.approx(bits / tokens, rel=1e-5)
    assert rows[4, "bits_per_byte"]["value"] == pytest.approx(bits / n_bytes, rel=1e-5)
    assert (rows[4, "cross_entropy"]["n_documents"], rows[4, "cross_entropy"]["n_tokens"]) == (2, tokens)
    assert rows[None, "kl_from_base"]["value"] == 0
    assert rows[4, "kl_from_base"]["value"] > 0


def test_a_pair_of_equal_answers_ends_the_job_with_its_place(host):
    good = {"instruction": "what is this", "chosen": "the fox", "rejected": "the dog"}
    host.add_dataset("same", [good, good, good | {"rejected": "the fox"}, good])
    error = host.attempt(a_preference_job(data={"dataset": "same", "val_size": 0})).error
    assert error.reason == Reason.BAD_ROW
    assert (error.where["file"], error.where["row"]) == ("same.json", 3)


def test_a_loss_that_is_no_number_ends_the_job_and_the_last_good_checkpoint_stays(host):
    values = {
        "learning_rate": 1e30,
        "lr_scheduler_type": "constant_with_warmup",
        "warmup_steps": 3,
        "save_steps": 1,
        "max_steps": 6,
    }
    job = a_preference_job(finetuning=FULL, training=values, measures=UNMEASURED)
    attempt = host.attempt(job)
    assert attempt.error.reason == Reason.DIVERGED
    assert attempt.checkpoints()
    kept = host.weights(attempt)
    assert all(tensor.isfinite().all() for tensor in kept.values())


def test_a_batch_of_pairs_is_their_chosen_texts_and_then_their_rejected_ones(host):
    pairs = training_pairs(host).train[:3]
    batch = PairCollator(Collator(pad_id=1))(features(pairs))
    texts = [pair.chosen for pair in pairs] + [pair.rejected for pair in pairs]
    for row, mask, labels, text in zip(*batch.values(), texts, strict=True):
        assert row[mask.bool()].tolist() == text.input_ids
        assert labels[mask.bool()].tolist() == text.labels


# -- answers that are judged one by one ------------------------------------------------------------------------------------

JUDGED = {"dataset": "judged"}
KTO = {"dpo_loss": "kto"}


def test_judged_answers_are_learned_with_the_reference_point_of_their_batch(host):
    """At first every log-ratio is 0, and so is the point: 1 - sigma(0) = 1/2. Then good answers win and bad ones lose."""
    values = {"learning_rate": 2e-2, "max_steps": 16, "save_steps": 16, "per_device_train_batch_size": 5}
    points = a_run(host, KTO, data=JUDGED, training=values).points()
    assert points[1]["loss"] == pytest.approx(0.5, rel=1e-6)
    assert points[1]["kl"] == 0
    assert points[16]["loss"] < 0.47
    assert points[16]["rewards/chosen"] > points[16]["rewards/rejected"] + 0.2
    assert max(point["kl"] for point in points.values()) > 0


def test_the_reference_point_is_estimated_from_each_prompt_with_the_next_rows_answer(host, make_llama):
    """With another model as the reference nothing is 0, and all of a first batch can be counted text by text."""
    host.add_model("other", make_llama(seed=4))
    finetuning = KTO | {"ref_model": "tiny", "dpo_ftx": 0.5}
    on_it = {"model_name_or_path": "other"}
    values = WHOLE | {"per_device_train_batch_size": 12}
    attempt = a_run(host, finetuning, model=on_it, data=JUDGED | {"val_size": 0}, training=values)
    data = DataArguments(template="default", dataset="judged", cutoff_len=64)
    wanted = Wanted("dpo", data, MeasureArguments(), seed=42, dpo_loss="kto")
    rows = load_judged(Places(host.datasets, host.root), wanted, load_tokenizer(host.models / "tiny")).train
    order = as_drawn(rows)
    models = [AutoModelForCausalLM.from_pretrained(host.models / name) for name in ("other", "tiny")]

    def log_ratio(prompt, answer):
        own, ref = (answer_log_prob(model, prompt, answer) for model in models)
        return own - ref

    prompts = [[token for token, label in zip(row.input_ids, row.labels, strict=True) if label == MASKED] for row in order]
    answers = [[label for label in row.labels if label != MASKED] for row in order]
    ratios = [log_ratio(prompt, answer) for prompt, answer in zip(prompts, answers, strict=True)]
    others = [log_ratio(prompt, answer) for prompt, answer in zip(prompts, [*answers[1:], answers[0]], strict=True)]
    z = sum(others) / len(others)
    assert z > 0.1, "a point of 0 would say nothing"
    signs = [1 if row.desirable else -1 for row in order]
    losses = [1 / (1 + math.exp(0.1 * sign * (ratio - z))) for sign, ratio in zip(signs, ratios, strict=True)]
    nll = [-answer_log_prob(models[0], p, a) / len(a) for p, a, row in zip(prompts, answers, order, strict=True) if row.desirable]
    point = attempt.points()[1]
    assert point["kl"] == pytest.approx(z, rel=1e-4, abs=1e-4)
    assert point["loss/preference"] == pytest.approx(sum(losses) / len(losses), rel=1e-4)
    assert point["loss"] == pytest.approx(sum(losses) / len(losses) + 0.5 * sum(nll) / len(nll), rel=1e-4)
    good = [ratio for ratio, row in zip(ratios, order, strict=True) if row.desirable]
    assert point["rewards/chosen"] == pytest.approx(0.1 * sum(good) / len(good), rel=1e-4)


def answer_log_prob(model, prompt, answer):
    with torch.no_grad():
        log_probs = model(input_ids=torch.tensor([[*prompt, *answer]])).logits[0].log_softmax(-1)
    return sum(float(log_probs[len(prompt) - 1 + i, token]) for i, token in enumerate(answer))


def as_drawn(rows):
    """The rows as the trainer's sampler drew them: a batch's next row depends on it."""
    generator = torch.Generator().manual_seed(42)
    return [rows[i] for i in torch.randperm(len(rows), generator=generator).tolist()]


def test_a_last_batch_of_one_has_no_other_answer_and_the_point_0(host):
    attempt = a_run(host, KTO, data=JUDGED | {"val_size": 3}, training={"max_steps": 5})
    assert attempt.points()[5]["kl"] == 0


def test_an_answer_is_cut_to_what_another_prompt_leaves_it():
    rows = [
        {"input_ids": [5, 6, 7, 8], "labels": [MASKED, MASKED, MASKED, 8], "desirable": True},
        {"input_ids": [9, 10, 11], "labels": [MASKED, 10, 11], "desirable": False},
    ]
    batch = JudgedCollator(Collator(pad_id=0), cutoff_len=4)(rows)
    assert batch["mismatched"]["input_ids"].tolist() == [[5, 6, 7, 10], [9, 8, 0, 0]]
    assert batch["mismatched"]["labels"].tolist() == [[MASKED, MASKED, MASKED, 10], [MASKED, 8, MASKED, MASKED]]
    assert batch["desirable"].tolist() == [True, False]
    assert JudgedCollator(Collator(pad_id=0), 4)(rows[:1])["mismatched"] is None


def test_judged_answers_are_streamed_and_cached_and_their_good_ones_measured(host):
    streamed = a_run(host, KTO, data=JUDGED | {"streaming": True, "buffer_size": 4})
    cached = [a_run(host, KTO, data=JUDGED | {"cache_path": "mine"}) for _ in range(2)]
    assert streamed.losses()[0] == pytest.approx(0.5, rel=1e-6)
    assert cached[0].losses() == cached[1].losses()
    measured = host.done(a_preference_job(finetuning=KTO, data=JUDGED | {"val_size": 6}, training=ONE))
    seed_rows = load_judged(
        Places(host.datasets, host.root),
        Wanted("dpo", DataArguments(template="default", dataset="judged", val_size=6), MeasureArguments(), 42, None, "kto"),
        load_tokenizer(host.models / "tiny"),
    )
    good = 6 - sum(example.desirable for example in seed_rows.train)
    assert measured.rows()[1, "cross_entropy"]["n_documents"] == good == len(seed_rows.evaluation)


@pytest.mark.parametrize(
    ("data", "training", "why"),
    [
        ({"dataset": "judged"}, {"per_device_train_batch_size": 1}, "must be at least 2"),
        ({"dataset": "judged, better"}, {}, "hold labels and some pairs"),
    ],
)
def test_what_kto_cannot_learn_from_is_refused(host, data, training, why):
    error = host.attempt(a_preference_job(finetuning=KTO, data=data, training=training)).error
    assert error.reason == Reason.BAD_DATA
    assert why in error.sentence


def test_labels_are_for_kto_alone(host):
    error = host.attempt(a_preference_job(data=JUDGED)).error
    assert error.sentence.endswith("(kto_tag): only the stage dpo with dpo_loss kto learns from that.")
