"""What may not go together: one named function for each refusal, over a resolved step.

Each yields (the argument's "group.field", or "group.field.0.key" within it, why and what to do). `read.py` finds the place in the
document.
The sources of the rules are the argument dataclasses' own checks; the arguments are LLaMA-Factory's.
"""

import re
from collections.abc import Callable, Iterator

from service.specs.alerts import BY_NAME as ALERTS
from service.specs.base import Group
from service.specs.catalogue.measure import Object
from service.specs.checkpoint_names import CheckpointName, exported_by, named_in
from service.specs.companions import companions, with_companions
from service.specs.deeds import looks_at
from service.specs.generating import predicted_beams
from service.specs.guards import threshold
from service.specs.job import STEP_GROUPS, JobSpec, ResolvedJob, ResolvedStep, set_by
from service.specs.ledger import LEDGER
from service.specs.lineage import Lineage, lineage, lineages
from service.specs.measures import BY_NAME as MEASURES
from service.specs.measures import DEFAULT_NAMES, OF_PAIRS, WITHOUT_MEMBERSHIP, MeasureArguments, taken_on
from service.specs.messages import why_not_answered
from service.specs.nearest import no_such
from service.specs.refusals import Refusal
from service.specs.roots import is_own_repository

# The chat templates by name; the worker's `data/templates.py` holds them, and a test keeps the two lists equal. "tokenizer" is
# the one that the model's tokenizer comes with.
TEMPLATES = (
    "alpaca",
    "atom",
    "baichuan",
    "baichuan2",
    "belle",
    "bluelm",
    "chatglm3",
    "chatml",
    "cohere",
    "cpm",
    "deepseek",
    "deepseek3",
    "deepseekr1",
    "deepseekcoder",
    "default",
    "empty",
    "falcon",
    "gemma",
    "gemma2",
    "gemma3",
    "glm4",
    "intern",
    "intern2",
    "llama2",
    "llama2_zh",
    "llama3",
    "llama3_1",
    "mistral",
    "mistral_v3",
    "ministral",
    "mistral_small",
    "openchat",
    "orion",
    "phi",
    "phi4",
    "qwen",
    "qwen2_5",
    "qwen3",
    "qwen3_nothink",
    "solar",
    "starchat",
    "tokenizer",
    "vanilla",
    "vicuna",
    "xverse",
    "yi",
    "yuan",
    "zephyr",
    "ziya",
)

Complaints = Iterator[tuple[str, str]]

NO_EFFECT = "This has no effect here"

REWARDS_WRITE_NOTHING = "The stage rm makes a reward model, which scores texts and writes none: name what sft, dpo or ppo made."


def template_is_given(step: ResolvedStep) -> Complaints:
    has_rows = step.do != "evaluate" and (step.do != "export" or bool(step.data.dataset))
    if step.finetuning.stage != "pt" and step.data.template is None and has_rows:
        yield "data.template", f"The stage {step.finetuning.stage} needs a template; only pt goes without."


def template_is_known(step: ResolvedStep) -> Complaints:
    if step.data.template is not None and step.data.template not in TEMPLATES:
        yield "data.template", f"There is no template {step.data.template!r}; there are {', '.join(TEMPLATES)}."


def own_template_is_not_split(step: ResolvedStep) -> Complaints:
    if step.data.template == "tokenizer" and step.model.split_special_tokens:
        yield "model.split_special_tokens", "The tokenizer's own chat template is one text, whose marks would be split too."


def dataset_is_given(step: ResolvedStep) -> Complaints:
    if not step.data.dataset and step.do in ("train", "inspect", "predict"):
        what = "A training step needs a data set" if step.do == "train" else "There is no data set to look at"
        yield "data.dataset", f"{what}: a name in dataset_info.json, or several with commas."


def held_out_rows_are_not_trained(step: ResolvedStep) -> Complaints:
    names = step.data.dataset or ()
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice and step.data.val_size:
        why = f"{', '.join(twice)} is named twice, so a row that val_size holds out would be trained all the same: name it once"
        yield "data.dataset", f"{why} (mix_strategy and interleave_probs give a data set more weight)."


def packed_examples_stay_apart(step: ResolvedStep) -> Complaints:
    if step.data.sft_packing and step.model.shift_attn:
        yield "model.shift_attn", "Shifted sparse attention has groups that reach over the examples of a packed block."


def blocks_are_of_one_length(step: ResolvedStep) -> Complaints:
    if step.data.sft_packing and step.training.group_by_length:
        yield "training.group_by_length", "Packed blocks are all of one length, so there is nothing to group."


def label_fits(step: ResolvedStep) -> Complaints:
    if step.data.reserved_label_len >= step.data.cutoff_len:
        yield "data.reserved_label_len", "reserved_label_len must be smaller than cutoff_len."


def val_size_is_a_share_or_a_count(step: ResolvedStep) -> Complaints:
    if step.data.val_size > 1 and step.data.val_size != int(step.data.val_size):
        yield "data.val_size", "val_size is a share below 1 or a whole number of rows."


def streaming_has_an_end(step: ResolvedStep) -> Complaints:
    if step.data.streaming and step.training.max_steps <= 0:
        yield "data.streaming", "A streamed data set has no known length: set training.max_steps."


def streaming_counts_its_validation(step: ResolvedStep) -> Complaints:
    if step.data.streaming and 0 < step.data.val_size < 1:
        yield "data.val_size", "Streaming needs a whole number of validation rows, not a share."


def streaming_takes_all(step: ResolvedStep) -> Complaints:
    if step.data.streaming and step.data.max_samples is not None:
        yield "data.max_samples", "max_samples does not go with streaming."


def streaming_is_counted_in_steps(step: ResolvedStep) -> Complaints:
    if step.data.streaming and step.training.save_strategy == "epoch":
        yield "training.save_strategy", "A stream has no epochs to save after: use save_strategy steps."


def streaming_keeps_its_order(step: ResolvedStep) -> Complaints:
    if step.data.streaming and step.training.group_by_length:
        yield (
            "training.group_by_length",
            "Rows that are streamed come in the order of the buffer; they cannot be grouped by length.",
        )


def streaming_is_not_cached(step: ResolvedStep) -> Complaints:
    if step.data.streaming and step.data.cache_path is not None:
        yield "data.cache_path", "Rows that are streamed are not all read, so they cannot be cached: leave out cache_path."


def streaming_is_not_packed(step: ResolvedStep) -> Complaints:
    if step.data.streaming and step.data.sft_packing:
        yield (
            "data.sft_packing",
            "Packing looks for examples that fit together among all of them, and does not go with streaming.",
        )


def streaming_tokenises_as_it_trains(step: ResolvedStep) -> Complaints:
    if step.data.streaming and (step.data.preprocessing_num_workers or 1) > 1:
        why = "Rows that are streamed are tokenised by the training process, while it trains: leave it out."
        yield "data.preprocessing_num_workers", why


def streaming_reads_in_the_training_process(step: ResolvedStep) -> Complaints:
    if step.data.streaming and step.training.dataloader_num_workers:
        yield "training.dataloader_num_workers", "Rows that are streamed are read by the training process: leave it out."


def split_is_a_name(step: ResolvedStep) -> Complaints:
    if not re.fullmatch(r"\w+(\.\w+)*", step.data.split):
        yield "data.split", "split is the name of one split, such as train; max_samples takes a part of it."


def several_are_interleaved(step: ResolvedStep) -> Complaints:
    if step.data.mix_strategy != "concat" and len(step.data.dataset or ()) < 2:
        yield "data.mix_strategy", "There is one data set, and nothing to interleave it with."


def cache_path_is_a_name(step: ResolvedStep) -> Complaints:
    if step.data.cache_path is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", step.data.cache_path):
        yield "data.cache_path", "cache_path is a name among the operator's caches: letters, digits, dots and dashes, no folders."


def interleave_probs_fit(step: ResolvedStep) -> Complaints:
    probs = step.data.interleave_probs
    if probs is None:
        return
    try:
        numbers = [float(prob) for prob in probs]
    except ValueError:
        yield "data.interleave_probs", "interleave_probs are numbers, with commas between them."
        return
    if any(not 0 < number <= 1 for number in numbers):
        yield "data.interleave_probs", "A probability is a number above 0 and up to 1; leave out a data set that is never drawn."
        return
    if len(numbers) != len(step.data.dataset or ()):
        yield "data.interleave_probs", f"There are {len(numbers)} probabilities for {len(step.data.dataset or ())} data sets."
    if abs(sum(numbers) - 1) > 1e-6:
        yield "data.interleave_probs", f"The probabilities add up to {sum(numbers):g}, not to 1."


def quantization_needs_lora(step: ResolvedStep) -> Complaints:
    if step.model.quantization_bit is not None and step.finetuning.finetuning_type != "lora":
        yield "model.quantization_bit", "A quantized model can only be trained with finetuning_type lora."


def quantized_base_keeps_its_adapter(step: ResolvedStep) -> Complaints:
    if step.model.quantization_bit is None or not step.model.adapter_name_or_path:
        return
    if step.finetuning.create_new_adapter:
        yield "finetuning.create_new_adapter", "A quantized model cannot merge the adapter given: go on with it instead."
    if len(step.model.adapter_name_or_path) > 1:
        yield "model.adapter_name_or_path", "A quantized model takes one adapter only, since none can be merged."


def quantized_companions_keep_their_adapter(step: ResolvedStep) -> Complaints:
    for beside in companions(step):
        if beside.step.model.quantization_bit is not None and len(beside.step.model.adapter_name_or_path or ()) > 1:
            argument = beside.argument("model.adapter_name_or_path")
            yield argument, "A quantized model takes one adapter only, since none can be merged."


def whole_models_take_one_adapter(step: ResolvedStep) -> Complaints:
    is_merged = step.finetuning.finetuning_type == "lora" or step.do == "export"
    if not is_merged and len(step.model.adapter_name_or_path or ()) > 1:
        yield "model.adapter_name_or_path", f"finetuning_type {step.finetuning.finetuning_type} takes one adapter only."


def ppo_has_a_reward(step: ResolvedStep) -> Complaints:
    if step.do == "train" and step.finetuning.stage == "ppo" and step.finetuning.reward_model is None:
        yield "finetuning.reward_model", "The stage ppo needs a reward model."


def lora_reward_needs_lora(step: ResolvedStep) -> Complaints:
    fine = step.finetuning
    if fine.stage == "ppo" and fine.reward_model_type == "lora" and fine.finetuning_type != "lora":
        yield "finetuning.reward_model_type", "Freeze and full PPO training need reward_model_type full or api."


def ppo_attends_fully(step: ResolvedStep) -> Complaints:
    if step.finetuning.stage == "ppo" and step.model.shift_attn:
        yield "model.shift_attn", "Shifted sparse attention is for training on given text; ppo generates its own."


def ppo_is_counted_in_steps(step: ResolvedStep) -> Complaints:
    if step.finetuning.stage == "ppo" and step.training.save_strategy == "epoch":
        yield "training.save_strategy", "A buffer of ppo reaches over the end of an epoch: use save_strategy steps."


def ppo_does_not_scale_gradients(step: ResolvedStep) -> Complaints:
    if step.finetuning.stage == "ppo" and step.training.fp16:
        why = (
            "fp16 leaves out a step whose scaled gradients overflow, and ppo must take all of a buffer: train with bf16 instead."
        )
        yield "training.fp16", why


def drawing_needs_a_temperature(step: ResolvedStep) -> Complaints:
    given = step.generating
    draws = step.do in ("predict", "generate") or (step.do == "train" and step.finetuning.stage == "ppo")
    if draws and given.do_sample and given.temperature == 0:
        yield "generating.temperature", "At temperature 0 nothing is drawn: set do_sample to false for the likeliest tokens."


def shifted_attention_is_its_own(step: ResolvedStep) -> Complaints:
    if step.model.shift_attn and step.model.flash_attn:
        yield "model.flash_attn", "Shifted sparse attention is a kernel of its own: give shift_attn or flash_attn, not both."


def shifted_groups_have_halves(step: ResolvedStep) -> Complaints:
    if step.model.shift_attn and step.data.cutoff_len < 8:
        yield "data.cutoff_len", "Shifted sparse attention has groups of cutoff_len / 4 tokens, and they need two at least."


def unsloth_trains_adapters_on_texts(step: ResolvedStep) -> Complaints:
    if step.do != "train" or not step.model.use_unsloth:
        return
    if step.finetuning.finetuning_type != "lora":
        yield "model.use_unsloth", f"unsloth makes LoRA adapters; finetuning_type {step.finetuning.finetuning_type} has none."
    elif step.finetuning.stage not in UNSLOTH_STAGES:
        stages = " and ".join(UNSLOTH_STAGES)
        yield "model.use_unsloth", f"unsloth trains the stages {stages} here; {step.finetuning.stage} trains without it."


def unsloth_does_its_own(step: ResolvedStep) -> Complaints:
    """It loads, attends, scales and quantizes by itself: what is asked of those otherwise would be lost in silence."""
    if step.do != "train" or not step.model.use_unsloth:
        return
    for argument in NOT_BESIDE_UNSLOTH:
        group, field = argument.split(".")
        if getattr(getattr(step, group), field):
            yield (
                argument,
                "This does not go along with use_unsloth, which loads the model in its own way: leave out one of them.",
            )


def unsloth_quantizes_to_four_bits(step: ResolvedStep) -> Complaints:
    arguments = step.model
    if step.do != "train" or not arguments.use_unsloth or arguments.quantization_bit is None:
        return
    if arguments.quantization_bit != 4:
        yield "model.quantization_bit", "unsloth's own kernels take 4 bits or none: leave out use_unsloth for 8."
        return
    if arguments.quantization_type != "nf4":
        yield "model.quantization_type", "unsloth quantizes to nf4: leave out use_unsloth for fp4."
    if not arguments.double_quantization:
        yield "model.double_quantization", "unsloth quantizes its scales, too: leave out use_unsloth to keep them whole."


def scaled_gradients_are_fp32(step: ResolvedStep) -> Complaints:
    if step.finetuning.lora_bf16_mode and step.training.fp16:
        yield "finetuning.lora_bf16_mode", "fp16 scales its gradients, which needs fp32 adapters: train with bf16 instead."


def export_quantization_has_a_corpus(step: ResolvedStep) -> Complaints:
    quantizes = step.do == "export" and step.model.export_quantization_bit is not None
    if quantizes and step.model.export_quantization_dataset is None:
        yield "model.export_quantization_dataset", "Quantizing an export needs a data set to calibrate on."


def quantized_exports_are_safetensors(step: ResolvedStep) -> Complaints:
    if step.do == "export" and step.model.export_quantization_bit is not None and step.model.export_legacy_format:
        yield "model.export_legacy_format", "What GPTQ has packed is written as safetensors: leave this out."


def hub_model_id_is_a_name(step: ResolvedStep) -> Complaints:
    name = step.model.export_hub_model_id
    if step.do == "export" and name is not None and not is_own_repository(name):
        yield "model.export_hub_model_id", "A repository is named owner/name: letters, digits, dots and dashes, up to 96 of them."


def pushing_has_a_token(step: ResolvedStep) -> Complaints:
    if step.do == "export" and step.model.export_hub_model_id is not None and step.model.hf_hub_token is None:
        yield "model.hf_hub_token", "Pushing to a hub needs a token that may write there."


def warmup_is_said_once(step: ResolvedStep) -> Complaints:
    if step.training.warmup_steps and step.training.warmup_ratio:
        yield "training.warmup_ratio", "Give warmup_steps or warmup_ratio, not both."


def precision_is_one(step: ResolvedStep) -> Complaints:
    if step.training.bf16 and step.training.fp16:
        yield "training.fp16", "Give bf16 or fp16, not both."


def max_steps_is_positive(step: ResolvedStep) -> Complaints:
    if step.training.max_steps == 0:
        yield "training.max_steps", "max_steps is at least 1, or -1 to go by num_train_epochs."


def adafactor_has_whole_matrices(step: ResolvedStep) -> Complaints:
    if step.training.fsdp and step.training.optim == "adafactor":
        yield "training.optim", "Adafactor looks at whole matrices, of which fsdp leaves each GPU a part: use adamw_torch or sgd."


def measures_are_known(step: ResolvedStep) -> Complaints:
    for name in step.measures.names:
        if name not in MEASURES:
            yield "measures.names", no_such("measure", name, MEASURES)


def anchor_is_measured(step: ResolvedStep) -> Complaints:
    if step.measures.anchor and not step.measures.names:
        yield "measures.anchor", "Nothing is measured on it: measures.names is empty."


def guards_watch_what_is_measured(step: ResolvedStep) -> Complaints:
    for index, guard in enumerate(step.measures.guards):
        for why in _unwatched(guard.when, step.measures):
            yield f"measures.guards.{index}.when", why


def _unwatched(when: str, measures: MeasureArguments) -> Iterator[str]:
    limit = threshold(when)
    if limit is None and when not in ALERTS:
        yield no_such("alert", when, ALERTS) + ' Or a measure, < or >, and a number: "kl_from_base > 0.5".'
        return
    if limit is not None and limit.measure not in MEASURES:
        yield no_such("measure", limit.measure, MEASURES)
        return
    needs = ALERTS[when].needs if limit is None else (limit.measure,)
    on_anchor = ALERTS[when].text == "anchor" if limit is None else limit.on_anchor
    if not measures.names:
        yield "Nothing is measured: measures.names is empty."
    elif missing := [name for name in needs if name not in measures.names]:
        yield f"It looks at {', '.join(missing)}, which is not measured: add it to measures.names."
    if on_anchor and not measures.anchor:
        yield "It looks at the anchor corpus, and there is none: name a data set in measures.anchor."


def guards_do_one_thing_each(step: ResolvedStep) -> Complaints:
    seen: set[str] = set()
    for index, guard in enumerate(step.measures.guards):
        if guard.when in seen:
            yield f"measures.guards.{index}.when", f"Another guard waits for {guard.when!r}: say once what is to be done."
        seen.add(guard.when)


def measures_of_a_task_have_one(step: ResolvedStep) -> Complaints:
    names = _named_on(step, "task")
    if names and step.measures.task is None:
        yield "measures.task", f"{names} on labels and answers: name a labelled data set here."


def measures_of_conversations_have_them(step: ResolvedStep) -> Complaints:
    names = _named_on(step, "prompts", "systems", "task")
    if names and step.finetuning.stage == "pt":
        yield "measures.names", f"{names} on conversations, and the stage pt has texts only."


def membership_has_rows_of_both_kinds(step: ResolvedStep) -> Complaints:
    names = _named_on(step, "membership")
    if names and not step.data.val_size and not step.measures.dataset:
        yield "measures.names", f"{names} on training rows against held-out ones: set data.val_size, or name measures.dataset."


def streams_are_not_read_for_measures(step: ResolvedStep) -> Complaints:
    names = _named_on(step, "membership", "data")
    if names and step.data.streaming:
        yield "measures.names", f"{names} on the training rows, which are not all read where they are streamed."


def measures_of_an_adapter_have_one(step: ResolvedStep) -> Complaints:
    # among the defaults they are left out where there is no adapter, and a job that repeats the defaults is no other job
    names = _named_on(step, "adapter")
    defaults = (DEFAULT_NAMES, WITHOUT_MEMBERSHIP, (*WITHOUT_MEMBERSHIP, *OF_PAIRS))
    if names and step.finetuning.finetuning_type != "lora" and step.measures.names not in defaults:
        yield "measures.names", f"{names} on a LoRA adapter, and finetuning_type is {step.finetuning.finetuning_type}."


def _named_on(step: ResolvedStep, *objects: Object) -> str:
    """The measures taken on these things, as a sentence begins; empty where none is named."""
    names = [name for name in step.measures.names if name in MEASURES and MEASURES[name].on in objects]
    return f"{', '.join(names)} {'is' if len(names) == 1 else 'are'} taken" * bool(names)


def pairs_are_measured_by_rewards(step: ResolvedStep) -> Complaints:
    named = [name for name in step.measures.names if name in OF_PAIRS]
    if named and step.finetuning.stage != "rm":
        yield "measures.names", f"{', '.join(named)}: only a step of the stage rm has a model that scores pairs of answers."


def measuring_has_a_text(step: ResolvedStep) -> Complaints:
    if step.do != "measure":
        return
    if not step.measures.dataset and not step.data.dataset:
        yield (
            "measures.dataset",
            "A step that measures needs a text: a data set here, or data.dataset with what val_size holds out.",
        )
    if step.data.val_size and not step.data.dataset:
        yield "data.val_size", "There is no data.dataset to hold rows out of: measures.dataset is measured whole."
    if not step.measures.names:
        yield "measures.names", "A step that measures has nothing to do: measures.names is empty."


def measuring_reads_answers(step: ResolvedStep) -> Complaints:
    if step.do == "measure" and step.finetuning.stage not in READ_AS:
        what = "pt reads texts, sft conversations, dpo the chosen answers of pairs, rm scores pairs"
        yield (
            "finetuning.stage",
            f"In a step that measures the stage says how rows are read ({what}); {step.finetuning.stage} is none.",
        )


def predicting_reads_conversations(step: ResolvedStep) -> Complaints:
    if step.do == "predict" and step.finetuning.stage != "sft":
        why = f"Predictions answer conversations, as the stage sft reads them; {step.finetuning.stage} has none."
        yield "finetuning.stage", why


def generating_reads_messages(step: ResolvedStep) -> Complaints:
    if step.do == "generate" and step.finetuning.stage not in ("pt", "sft"):
        yield (
            "finetuning.stage",
            "The stage of a step that generates says what messages are: in pt a text, in sft a conversation.",
        )


def one_model_answers(step: ResolvedStep) -> Complaints:
    names = step.measures.checkpoints or ()
    if step.do not in ("predict", "generate") or not names:
        return
    if len(names) > 1:
        yield "measures.checkpoints", "One model answers: give each checkpoint a step of its own."
    name = CheckpointName.read(names[0])
    if name is not None and name.at == "*":
        yield "measures.checkpoints.0", "One model answers: name one checkpoint by its number."


def inspecting_reads_rows(step: ResolvedStep) -> Complaints:
    if step.do == "inspect" and step.finetuning.stage not in READ_AS:
        what = "pt reads texts, sft conversations, dpo and rm preferences"
        yield "finetuning.stage", f"In a step that inspects the stage says how rows are read: {what}."


def measures_of_training_rows_have_them(step: ResolvedStep) -> Complaints:
    names = _named_on(step, "membership", "data")
    if step.do == "measure" and names and not step.data.dataset:
        yield "measures.names", f"{names} on training rows: name in data.dataset what was trained on."


def measures_of_gradients_train(step: ResolvedStep) -> Complaints:
    names = _named_on(step, "gradient")
    if step.do == "measure" and names:
        yield "measures.names", f"{names} on what trains, and in a step that measures nothing does."


def checkpoints_are_named(step: ResolvedStep) -> Complaints:
    for index, text in enumerate(step.measures.checkpoints or () if step.do in ASKS_CHECKPOINTS else ()):
        name = CheckpointName.read(text)
        if name is None:
            forms = "job-.../sft/40, job-.../sft, job-.../sft/*, @sft or @sft/40"
            yield f"measures.checkpoints.{index}", f"{text!r} is no checkpoint's name, which reads {forms}."
        elif name.job_id is None and name.at == "*":
            yield (
                f"measures.checkpoints.{index}",
                f"How many checkpoints @{name.step} will make is not known: name them by number.",
            )


def export_dir_is_a_name(step: ResolvedStep) -> Complaints:
    if step.model.export_dir is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", step.model.export_dir):
        yield (
            "model.export_dir",
            "export_dir is a name among the exports: letters, digits, dots and dashes, no folders.",
        )


def exported_checkpoint_is_one(step: ResolvedStep) -> Complaints:
    name = exported_by(step)
    if name is None:
        return
    if name.at == "*":
        yield "model.model_name_or_path", "One model is exported at a time: name one checkpoint, job-.../sft/40 or job-.../sft."
    if step.model.adapter_name_or_path:
        yield "model.adapter_name_or_path", "A checkpoint comes with the adapters that it was trained on: leave this out."


def evaluating_has_a_task(step: ResolvedStep) -> Complaints:
    task = step.evaluation.task
    if step.do != "evaluate" or step.evaluation.harness_task is not None:
        return
    if task is None:
        yield "evaluation.task", "A step that evaluates needs a task: a folder in task_dir, such as mmlu, or lm_eval:NAME."
    elif not re.fullmatch(r"[A-Za-z0-9][\w.-]{0,99}", task, re.ASCII):
        yield "evaluation.task", f"{task!r} is no task's name: give a folder in task_dir, such as mmlu, or lm_eval:NAME."


def results_have_a_folder(step: ResolvedStep) -> Complaints:
    save_dir = step.evaluation.save_dir
    if save_dir is not None and not re.fullmatch(r"[A-Za-z0-9][\w.-]{0,99}", save_dir, re.ASCII):
        yield "evaluation.save_dir", "save_dir is a name among the artifacts: letters, digits, dots and dashes, no folders."


def some_layer_is_trainable(step: ResolvedStep) -> Complaints:
    if step.finetuning.num_layer_trainable == 0:
        yield "finetuning.num_layer_trainable", "num_layer_trainable counts layers from the end (3) or the start (-3); not 0."


# What unsloth trains here: losses of the logits of given texts.
UNSLOTH_STAGES = ("pt", "sft")

# What does not go along with it.
NOT_BESIDE_UNSLOTH = (
    "model.adapter_name_or_path",
    "model.resize_vocab",
    "model.rope_scaling",
    "model.flash_attn",
    "model.shift_attn",
    "model.upcast_layernorm",
    "model.upcast_lmhead_output",
    "data.sft_packing",
    "finetuning.additional_target",
    "training.fsdp",
)

# The steps that may be of checkpoints.
ASKS_CHECKPOINTS = ("measure", "evaluate", "predict", "generate")

# How a step that measures, or inspects, may read its rows.
READ_AS = ("pt", "sft", "dpo", "rm")

RULES: tuple[Callable[[ResolvedStep], Complaints], ...] = (
    template_is_given,
    template_is_known,
    own_template_is_not_split,
    dataset_is_given,
    held_out_rows_are_not_trained,
    packed_examples_stay_apart,
    blocks_are_of_one_length,
    label_fits,
    val_size_is_a_share_or_a_count,
    streaming_has_an_end,
    streaming_counts_its_validation,
    streaming_takes_all,
    streaming_is_counted_in_steps,
    streaming_keeps_its_order,
    streaming_is_not_cached,
    streaming_is_not_packed,
    streaming_tokenises_as_it_trains,
    streaming_reads_in_the_training_process,
    split_is_a_name,
    several_are_interleaved,
    cache_path_is_a_name,
    interleave_probs_fit,
    quantization_needs_lora,
    quantized_base_keeps_its_adapter,
    quantized_companions_keep_their_adapter,
    whole_models_take_one_adapter,
    ppo_has_a_reward,
    lora_reward_needs_lora,
    ppo_attends_fully,
    ppo_is_counted_in_steps,
    ppo_does_not_scale_gradients,
    drawing_needs_a_temperature,
    shifted_attention_is_its_own,
    shifted_groups_have_halves,
    unsloth_trains_adapters_on_texts,
    unsloth_does_its_own,
    unsloth_quantizes_to_four_bits,
    scaled_gradients_are_fp32,
    export_quantization_has_a_corpus,
    quantized_exports_are_safetensors,
    hub_model_id_is_a_name,
    pushing_has_a_token,
    warmup_is_said_once,
    precision_is_one,
    max_steps_is_positive,
    adafactor_has_whole_matrices,
    measures_are_known,
    anchor_is_measured,
    guards_watch_what_is_measured,
    guards_do_one_thing_each,
    measures_of_a_task_have_one,
    measures_of_conversations_have_them,
    membership_has_rows_of_both_kinds,
    streams_are_not_read_for_measures,
    measures_of_an_adapter_have_one,
    pairs_are_measured_by_rewards,
    measuring_has_a_text,
    measuring_reads_answers,
    predicting_reads_conversations,
    generating_reads_messages,
    one_model_answers,
    inspecting_reads_rows,
    measures_of_training_rows_have_them,
    measures_of_gradients_train,
    checkpoints_are_named,
    export_dir_is_a_name,
    exported_checkpoint_is_one,
    evaluating_has_a_task,
    results_have_a_folder,
    some_layer_is_trainable,
)


def _writes(step: ResolvedStep) -> bool:
    """Whether the step's model writes texts: answers, those that are scored, or those that are measured."""
    if step.do in ("predict", "generate"):
        return True
    return step.finetuning.stage == "ppo" or "generations" in taken_on(step.measures.names)


# The ledger's conditions: which steps an argument can have an effect in.
def _trackers(step: ResolvedStep) -> set[str | None]:
    return {*step.training.report_to, step.finetuning.ppo_logger}


CONDITIONS: dict[str, Callable[[ResolvedStep], bool]] = {
    "finetuning_type is freeze": lambda step: step.finetuning.finetuning_type == "freeze",
    "finetuning_type is lora": lambda step: step.finetuning.finetuning_type == "lora",
    "training makes a new LoRA adapter": lambda step: (
        step.finetuning.finetuning_type == "lora" and (step.finetuning.create_new_adapter or not step.model.adapter_name_or_path)
    ),
    "finetuning_type is lora and adapter_name_or_path is given": lambda step: (
        step.finetuning.finetuning_type == "lora" and bool(step.model.adapter_name_or_path)
    ),
    "quantization_bit is 4": lambda step: step.model.quantization_bit == 4,
    "optim is adamw_torch": lambda step: step.training.optim == "adamw_torch",
    "mix_strategy interleaves": lambda step: step.data.mix_strategy != "concat",
    "streaming is on": lambda step: step.data.streaming,
    "measures.names has cross_entropy": lambda step: "cross_entropy" in step.measures.names,
    "save_strategy is steps": lambda step: step.training.save_strategy == "steps",
    "stage is not pt": lambda step: step.finetuning.stage != "pt",
    "stage is sft": lambda step: step.finetuning.stage == "sft",
    "the step exports": lambda step: step.do == "export",
    "the step exports a whole model": lambda step: step.do == "export" and not step.export.adapter_only,
    "the step exports in export_quantization_bit": lambda step: (
        step.do == "export" and step.model.export_quantization_bit is not None
    ),
    "the step exports to a hub": lambda step: step.do == "export" and step.model.export_hub_model_id is not None,
    "the step exports into an export_dir": lambda step: step.do == "export" and step.model.export_dir is not None,
    "the step exports and has data": lambda step: step.do == "export" and bool(step.data.dataset),
    "the step measures, evaluates, predicts or generates": lambda step: step.do in ASKS_CHECKPOINTS,
    "the step predicts": lambda step: step.do == "predict",
    "the step predicts with several beams": lambda step: (
        step.do == "predict" and predicted_beams(step.generating, step.data.eval_num_beams) > 1
    ),
    "the step evaluates": lambda step: step.do == "evaluate",
    "the step evaluates, and the task is a folder's": lambda step: step.do == "evaluate" and step.evaluation.harness_task is None,
    "a measure taken on a task is named": lambda step: "task" in taken_on(step.measures.names),
    "a measure taken on generations is named": lambda step: "generations" in taken_on(step.measures.names),
    "the step writes: predict, generate, the stage ppo, or a measure taken on generations": _writes,
    "do_sample is on, and the step writes: predict, generate, the stage ppo, or a measure taken on generations": lambda step: (
        step.generating.do_sample and _writes(step)
    ),
    "stage is pt or sft": lambda step: step.finetuning.stage in ("pt", "sft"),
    "stage is pt or sft and finetuning_type is full": lambda step: (
        step.finetuning.stage in ("pt", "sft") and step.finetuning.finetuning_type == "full"
    ),
    "stage is not ppo": lambda step: step.finetuning.stage != "ppo",
    "stage is ppo": lambda step: step.finetuning.stage == "ppo",
    "stage is ppo or dpo": lambda step: step.finetuning.stage in ("ppo", "dpo"),
    "stage is ppo and reward_model_type is full": lambda step: (
        step.finetuning.stage == "ppo" and step.finetuning.reward_model_type == "full"
    ),
    "stage is ppo and reward_model_type is api": lambda step: (
        step.finetuning.stage == "ppo" and step.finetuning.reward_model_type == "api"
    ),
    "max_new_tokens is 0, and the step predicts, generates or is of the stage ppo": lambda step: (
        step.generating.max_new_tokens <= 0 and (step.do in ("predict", "generate") or step.finetuning.stage == "ppo")
    ),
    "stage is dpo": lambda step: step.finetuning.stage == "dpo",
    "report_to or ppo_logger names wandb or mlflow": lambda step: bool({"wandb", "mlflow"} & _trackers(step)),
    "report_to or ppo_logger names wandb": lambda step: "wandb" in _trackers(step),
    "ref_model is given": lambda step: step.finetuning.ref_model is not None,
    # only the worker knows: it fails the job with `no_gpu` before anything is loaded
    "the worker has a GPU": lambda step: True,
}


def conditions_hold(spec: JobSpec, job: ResolvedJob) -> Iterator[Refusal]:
    """An argument that can have no effect in any step it reaches is refused, not ignored. Null is how a file gives none."""
    given = _given(spec)
    for argument, fate in LEDGER.items():
        if argument not in given or fate.kind not in ("works", "conditional"):
            continue
        group, field = argument.split(".")
        looked_at = [looks_at(step.do, argument) for step in job.steps]
        holds = [
            looks and (fate.kind == "works" or CONDITIONS[fate.why](step))
            for looks, step in zip(looked_at, job.steps, strict=True)
        ]
        why = f"{NO_EFFECT}: it works only where {fate.why or 'a step trains'}."
        reached = [holds[index] for index in range(len(holds)) if not spec.steps or field not in set_by(spec.steps[index], group)]
        if _is_given(getattr(spec, group), field) and reached and not any(reached):
            yield Refusal((group, field), why)
        for index, step in enumerate(spec.steps):
            if field in set_by(step, group) and _is_given(getattr(step, group), field) and not holds[index]:
                yield Refusal(("steps", index, group, field), why)


def _given(spec: JobSpec) -> set[str]:
    """The arguments that the document names somewhere, of the groups that a step has."""
    given = {f"{group}.{field}" for group in STEP_GROUPS for field in getattr(spec, group).model_fields_set}
    return given | {f"{group}.{field}" for step in spec.steps for group in STEP_GROUPS for field in set_by(step, group)}


def _is_given(group: Group, field: str) -> bool:
    return field in group.model_fields_set and getattr(group, field) is not None


def a_fraction_is_of_a_gpu(spec: JobSpec) -> Iterator[Refusal]:
    if spec.resources.gpus == 0 and spec.resources.gpu_memory_fraction < 1:
        yield Refusal(("resources", "gpu_memory_fraction"), "This has no effect here: the job asks for no GPU (gpus is 0).")


def results_do_not_meet(spec: JobSpec, job: ResolvedJob) -> Iterator[Refusal]:
    """Two steps' files of one name would be one file. What a step saves under no save_dir has the step's own name."""
    taken = {step.name: step.name for step in job.steps}
    for index, step in enumerate(job.steps):
        save_dir = step.evaluation.save_dir
        if step.do != "evaluate" or save_dir is None:
            continue
        other = taken.setdefault(save_dir, step.name)
        if other != step.name:
            why = f"The step {other!r} saves under {save_dir!r}, too: give each its own."
            yield Refusal(_place(spec, index, "evaluation.save_dir"), why)


def several_gpus_train(spec: JobSpec, job: ResolvedJob) -> Iterator[Refusal]:
    """They hold the rows of an update between them; what else a job does takes one."""
    if (spec.resources.gpus or 0) <= 1:
        return
    if not any(step.do == "train" for step in job.steps):
        place = ("resources", "gpus")
        yield Refusal(place, "Several GPUs have no effect here: no step trains, and to measure or to look at data takes one.")


def parts_are_of_several_gpus(spec: JobSpec, job: ResolvedJob) -> Iterator[Refusal]:
    if (spec.resources.gpus or 0) > 1:
        return
    for step in job.steps:
        if step.training.fsdp:
            yield Refusal(
                ("resources", "gpus"), f"With one GPU there is nothing that fsdp (step {step.name}) could share: ask for more."
            )
            return


def unsloth_is_alone(spec: JobSpec, job: ResolvedJob) -> Iterator[Refusal]:
    """It changes transformers' own models for the whole process, and so for every other step."""
    for index, step in enumerate(job.steps):
        if not step.model.use_unsloth or step.do != "train":
            continue
        if len(job.steps) > 1:
            why = "unsloth changes how models compute for a whole job: post this step as a job of its own."
            yield Refusal(_place(spec, index, "model.use_unsloth"), why)
        if spec.resources.gpus == 0:
            yield Refusal(("resources", "gpus"), "unsloth's kernels run on a GPU: leave out gpus or use_unsloth.")
        elif (spec.resources.gpus or 0) > 1:
            yield Refusal(("resources", "gpus"), "unsloth trains on one GPU here: ask for one, or leave out use_unsloth.")
        return


def names_are_unique(spec: JobSpec) -> Iterator[Refusal]:
    seen: set[str] = set()
    for index, step in enumerate(spec.steps):
        if step.name in seen:
            yield Refusal(("steps", index, "name"), f"There is another step named {step.name!r} before this one.")
        seen.add(step.name)


def exports_have_names_of_their_own(spec: JobSpec, job: ResolvedJob) -> Iterator[Refusal]:
    seen: set[str] = set()
    for index, step in enumerate(job.steps):
        if step.do == "export" and step.model.export_dir is not None:
            if step.model.export_dir in seen:
                why = f"Another step exports into {step.model.export_dir!r} before this one: give it another name."
                yield Refusal(_place(spec, index, "model.export_dir"), why)
            seen.add(step.model.export_dir)


def adapter_only_is_one_adapter(spec: JobSpec, job: ResolvedJob) -> Iterator[Refusal]:
    """An adapter acts on the weights it was trained on: one that lies on merged ones is of no use without them."""
    known = lineages(job)
    for index, step in enumerate(job.steps):
        if step.do != "export" or not step.export.adapter_only or exported_by(step) is not None:
            continue  # of a checkpoint the worker knows
        n_adapters = len(known[step.name].adapters)
        if n_adapters != 1:
            lie = f"are {n_adapters} adapters, one on another" if n_adapters else "is no adapter"
            yield Refusal(_place(spec, index, "export.adapter_only"), f"There {lie}: export the model whole.")


def messages_are_answered(spec: JobSpec, job: ResolvedJob) -> Iterator[Refusal]:
    """A step that generates has something to answer, and nothing else looks at messages."""
    steps = [step for step in job.steps if step.do == "generate"]
    if not steps:
        if spec.messages is not None:
            yield Refusal(("messages",), "This has no effect here: no step generates.")
        return
    if spec.messages is None:
        yield Refusal(("messages",), "A step that generates needs messages to answer: a list of {role, content}.")
        return
    why_not = why_not_answered(spec.messages)
    if why_not is not None:
        yield Refusal(("messages",), why_not)
    if len(spec.messages) > 1 and any(step.finetuning.stage == "pt" for step in steps):
        yield Refusal(("messages",), "In the stage pt there are no turns: give one message of the user, the text to go on with.")


def rewards_write_nothing(spec: JobSpec, job: ResolvedJob) -> Iterator[Refusal]:
    """What the stage rm makes scores texts; it is not asked for any."""
    scorers = {f"@{step.name}" for step in job.steps if step.do == "train" and step.finetuning.stage == "rm"}
    for index, step in enumerate(job.steps):
        if step.do not in ("predict", "generate"):
            continue
        named = [("model.model_name_or_path", step.model.model_name_or_path)]
        named += [("model.adapter_name_or_path", name) for name in step.model.adapter_name_or_path or ()]
        named += [(f"measures.checkpoints.{at}", name) for at, name in enumerate(step.measures.checkpoints or ())]
        for argument, name in named:
            if name.partition("/")[0] in scorers:
                yield Refusal(_place(spec, index, argument), REWARDS_WRITE_NOTHING)


def references_point_back(spec: JobSpec, job: ResolvedJob) -> Iterator[Refusal]:
    """ "@name" is what an earlier step of the same job made."""
    earlier: dict[str, ResolvedStep] = {}
    known: dict[str, Lineage] = {}
    for index, step in enumerate(job.steps):
        for asked, name_of in with_companions(step):
            for argument, why in _bad_references(asked, earlier, known):
                yield Refusal(_place(spec, index, name_of(argument)), why)
        known[step.name] = lineage(step, earlier, known)
        earlier[step.name] = step


def _bad_references(step: ResolvedStep, earlier: dict[str, ResolvedStep], known: dict[str, Lineage]) -> Iterator[tuple[str, str]]:
    made = {name: maker for name, maker in earlier.items() if maker.do == "train" or _exports_a_model(maker)}
    unknown = list(_unknown_references(step, made))
    for argument, name in unknown:
        maker = earlier.get(name[1:])
        if maker is not None and maker.do == "export":
            yield argument, f"The step {name[1:]!r} exports an adapter alone: name what it is exported from."
        elif maker is not None:
            yield argument, f"The step {name[1:]!r} trains nothing, so there is no model of it."
        else:
            yield argument, f"No earlier step is named {name[1:]!r}; there are {', '.join(made) or 'none'}."
    if unknown:
        return
    own = lineage(step, earlier, known)
    for why in _misplaced_adapters(step, own, earlier, known):
        yield "model.adapter_name_or_path", why
    if step.model.quantization_bit is not None and step.model.model_name_or_path.startswith("@") and own.merged:
        yield "model.quantization_bit", _merges_into_quantized(own)


def _exports_a_model(step: ResolvedStep) -> bool:
    return step.do == "export" and not step.export.adapter_only


def _unknown_references(step: ResolvedStep, earlier: dict[str, ResolvedStep]) -> Iterator[tuple[str, str]]:
    names = [] if exported_by(step) else [("model.model_name_or_path", step.model.model_name_or_path)]
    names += [("model.adapter_name_or_path", name) for name in step.model.adapter_name_or_path or ()]
    names += [(argument, f"@{name.step}") for argument, _, name in named_in(step) if name.job_id is None]
    for argument, name in names:
        if name.startswith("@") and name[1:] not in earlier:
            yield argument, name


def _misplaced_adapters(
    step: ResolvedStep, own: Lineage, earlier: dict[str, ResolvedStep], known: dict[str, Lineage]
) -> Iterator[str]:
    """An adapter acts on the weights it was trained on: the same model, with the same adapters merged before it."""
    given = step.model.adapter_name_or_path or ()
    for position, name in enumerate(given, len(own.adapters) - len(given)):
        if not name.startswith("@"):
            continue
        maker = earlier[name[1:]]
        if maker.finetuning.finetuning_type != "lora" or maker.do == "export":
            instead = "name it as model_name_or_path, or as a reward_model of the type full"
            yield f"The step {maker.name!r} makes a whole model, not an adapter: {instead}."
            continue
        here = Lineage(own.whole, own.adapters[:position])
        there = Lineage(known[maker.name].whole, known[maker.name].merged)
        if here != there:
            yield (
                f"The adapter of the step {maker.name!r} was trained on {there.sentence()}, and here it would lie on "
                f"{here.sentence()}. Name {name!r} as model_name_or_path to begin with all of it, merged."
            )


def _merges_into_quantized(own: Lineage) -> str:
    adapters = ", ".join(map(repr, own.merged))
    return f"Adapters ({adapters}) are merged into a model of full precision only, never into a quantized one."


def rewards_come_from_rm(spec: JobSpec, job: ResolvedJob) -> Iterator[Refusal]:
    """ "@name" as a reward model is what an earlier step learned of preferences: beside it lies a head that scores."""
    earlier: dict[str, ResolvedStep] = {}
    for index, step in enumerate(job.steps):
        argument, name = _head_is_beside(step)
        maker = earlier.get(name[1:]) if name.startswith("@") else None
        if maker is not None and maker.finetuning.stage != "rm":
            why = f"The step {maker.name!r} is of the stage {maker.finetuning.stage}; a reward model is made by the stage rm."
            yield Refusal(_place(spec, index, argument), why)
        earlier[step.name] = step


def _head_is_beside(step: ResolvedStep) -> tuple[str, str]:
    """(argument, what it names) of that which a ppo step's value head lies beside; nothing where the step has none."""
    fine = step.finetuning
    if fine.stage != "ppo" or fine.reward_model is None or fine.reward_model_type == "api":
        return "finetuning.reward_model", ""
    if fine.reward_model_type == "full" and fine.reward_model_adapters:
        return "finetuning.reward_model_adapters", fine.reward_model_adapters[-1]
    return "finetuning.reward_model", fine.reward_model


def _place(spec: JobSpec, index: int, argument: str) -> tuple[str | int, ...]:
    group, field, *deeper = argument.split(".")
    own = bool(spec.steps) and field in set_by(spec.steps[index], group)
    within = tuple(int(key) for key in deeper)
    return ("steps", index, group, field, *within) if own else (group, field, *within)
