"""use_unsloth, through a library that remembers what it was asked and does it with transformers and peft.

The library itself cannot be installed beside this worker: the newest, 2026.10.9, takes transformers up to 5.17 and trl up to
1.15. So what it makes of the calls is not seen here; that they are its own names is.
"""

import importlib.machinery
import sys
import types
import warnings

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

from service.library import check
from service.specs.read import read_job
from service.specs.reasons import Reason
from tests.worker.stages.attempts import Host, a_job, changed
from worker.failures import JobFailure
from worker.models import unsloth
from worker.models.loading import load_tokenizer
from worker.models.start import SavedAdapter, Start

CPU = torch.device("cpu")


class FakeLibrary(types.ModuleType):
    """What `from unsloth import FastLanguageModel` has of it. `asked` holds the arguments of both calls."""

    def __init__(self):
        super().__init__("unsloth")
        self.__spec__ = importlib.machinery.ModuleSpec("unsloth", None)
        self.asked = {}
        self.error = None
        library = self

        class FastLanguageModel:
            @staticmethod
            def from_pretrained(model_name, **arguments):
                library.asked["from_pretrained"] = {"model_name": model_name, **arguments}
                if library.error is not None:
                    raise library.error
                return AutoModelForCausalLM.from_pretrained(model_name, dtype=arguments["dtype"]), "a tokenizer of its own"

            @staticmethod
            def get_peft_model(model, **arguments):
                library.asked["get_peft_model"] = arguments
                names = ("r", "lora_alpha", "lora_dropout", "target_modules", "bias")
                config = LoraConfig(task_type="CAUSAL_LM", **{name: arguments[name] for name in names})
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", FutureWarning)  # of peft, which asks transformers by an old name
                    return get_peft_model(model, config)

        self.FastLanguageModel = FastLanguageModel


@pytest.fixture
def host(tmp_path, make_llama, tokenizer_folder):
    return Host(tmp_path, make_llama, tokenizer_folder)


@pytest.fixture
def library(monkeypatch):
    """It is there, and this host's CPU stands for a GPU."""
    library = FakeLibrary()
    monkeypatch.setitem(sys.modules, "unsloth", library)
    monkeypatch.setattr(unsloth, "DEVICES", ("cpu",))
    monkeypatch.delenv("UNSLOTH_RETURN_LOGITS", raising=False)
    return library


def step_of(model=None, **groups):
    (step,) = read_job(a_job(model={"use_unsloth": True, **(model or {})}, **groups)).resolved.steps
    return step


def adapted(host, step, start=None):
    start = start or Start(host.models / "tiny")
    return unsloth.with_new_adapter(start, step, load_tokenizer(host.models / "tiny"), CPU)


def refusal(host, step, start=None):
    with pytest.raises(JobFailure) as caught:
        adapted(host, step, start)
    return caught.value.reason, caught.value.sentence


def test_use_unsloth_loads_the_model_and_makes_the_adapter_with_unsloth(host, library):
    finetuning = {"lora_rank": 3, "lora_alpha": 7, "lora_dropout": 0.25, "lora_target": "q_proj,v_proj"}
    model = adapted(host, step_of(data={"cutoff_len": 48}, finetuning=finetuning, training={"seed": 11}))
    loaded, made = library.asked["from_pretrained"], library.asked["get_peft_model"]
    assert loaded == {
        "model_name": str(host.models / "tiny"),
        "max_seq_length": 48,
        "dtype": torch.float32,
        "load_in_4bit": False,
        "device_map": {"": CPU},
        "use_gradient_checkpointing": True,
        "use_exact_model_name": True,
        "fix_tokenizer": False,
        "local_files_only": True,
        "trust_remote_code": False,
    }
    assert made == {
        "r": 3,
        "lora_alpha": 7,
        "lora_dropout": 0.25,
        "target_modules": ["q_proj", "v_proj"],
        "bias": "none",
        "use_gradient_checkpointing": True,
        "random_state": 11,
        "max_seq_length": 48,
    }
    assert isinstance(model, PeftModel)
    assert model.peft_config["default"].base_model_name_or_path == ""
    assert unsloth.os.environ["UNSLOTH_RETURN_LOGITS"] == "1"


def test_four_bits_and_gradient_checkpointing_are_handed_on(host, library):
    adapted(host, step_of({"quantization_bit": 4, "disable_gradient_checkpointing": True}))
    assert library.asked["from_pretrained"]["load_in_4bit"] is True
    assert library.asked["from_pretrained"]["use_gradient_checkpointing"] is False
    assert library.asked["get_peft_model"]["use_gradient_checkpointing"] is False


def test_all_is_every_linear_layer_but_the_head_by_name(host, library):
    adapted(host, step_of())
    expected = ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"]
    assert library.asked["get_peft_model"]["target_modules"] == expected


def test_a_job_trains_with_it_to_its_end_and_is_measured(host, library):
    job = a_job(model={"use_unsloth": True})
    attempt = host.done(job)
    assert attempt.checkpoints() == [2, 4]
    assert (4, "cross_entropy") in attempt.rows()
    assert len(library.asked) == 2
    before, after = (host.weights(of) for of in (host.done(a_job(training={"max_steps": 1})), attempt))
    assert changed(before, after), "the adapter's tensors have the names that peft gives them"


def test_without_it_a_job_fails_before_anything_is_loaded(host):
    job = a_job(model={"use_unsloth": True})
    attempt = host.attempt(job)
    assert attempt.error.reason == Reason.MISSING_LIBRARY
    assert attempt.error.sentence == "This worker does not have unsloth: leave out use_unsloth, and LoRA trains with peft."
    assert attempt.events("model_loaded") == []


def test_without_a_gpu_it_is_not_imported(host, library, monkeypatch):
    monkeypatch.setattr(unsloth, "DEVICES", ("cuda",))
    reason, sentence = refusal(host, step_of())
    assert (reason, "run on a GPU" in sentence) == (Reason.NO_GPU, True)
    assert library.asked == {}


def test_one_that_cannot_be_imported_is_said_in_its_words(host, library, monkeypatch):
    def fails(name):
        raise NotImplementedError("Unsloth cannot find any torch accelerator\nand more")

    monkeypatch.setattr(unsloth, "import_module", fails)
    assert refusal(host, step_of()) == (
        Reason.MISSING_LIBRARY,
        "unsloth is installed on this worker and cannot be used: Unsloth cannot find any torch accelerator",
    )


def test_what_it_raises_is_a_failed_job_without_the_path_and_out_of_memory_stays_what_it_is(host, library):
    library.error = RuntimeError(f"cannot read {host.models / 'tiny'}")
    assert refusal(host, step_of()) == (Reason.BAD_MODEL, "unsloth does not load 'tiny': cannot read tiny")
    library.error = torch.OutOfMemoryError("CUDA out of memory")
    with pytest.raises(torch.OutOfMemoryError):
        adapted(host, step_of())


def test_a_model_that_it_has_no_kernels_for_is_refused(host, library):
    sizes = {"vocab_size": len(load_tokenizer(host.models / "tiny")), "n_embd": 32, "n_layer": 1, "n_head": 2}
    host.add_model("other", GPT2LMHeadModel(GPT2Config(**sizes)))
    reason, sentence = refusal(host, step_of(), Start(host.models / "other"))
    assert (reason, "'other' is a gpt2 one" in sentence) == (Reason.BAD_MODEL, True)


def test_texts_longer_than_the_model_s_positions_are_refused(host, library):
    reason, sentence = refusal(host, step_of(data={"cutoff_len": 100_000}))
    assert (reason, "would stretch the positions" in sentence) == (Reason.BAD_MODEL, True)


def test_a_model_with_adapters_is_refused(host, library):
    start = Start(host.models / "tiny", merged=(SavedAdapter("a", host.models / "a"),))
    reason, sentence = refusal(host, step_of(), start)
    assert (reason, "begins with whole models only" in sentence) == (Reason.BAD_MODEL, True)


def test_a_target_that_the_model_lacks_is_refused(host, library):
    reason, sentence = refusal(host, step_of(finetuning={"lora_target": "c_attn"}))
    assert (reason, "no module c_attn for lora_target" in sentence) == (Reason.BAD_MODEL, True)


def test_the_service_knows_the_same_families():
    assert unsloth.FAMILIES == check.UNSLOTH_FAMILIES
