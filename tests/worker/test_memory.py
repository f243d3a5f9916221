"""The estimate of service/library/memory.py, part by part, against tensors of real models that are counted."""

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.utils import convert_outputs_to_fp32
from bitsandbytes.functional import quantize_4bit
from bitsandbytes.nn import Linear8bitLt
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, LlamaForCausalLM

from service.library import memory, models, weights
from service.library.check import Roots
from service.library.held import FLOAT, HALF
from service.library.memory import Memory
from service.specs.job import ResolvedStep
from service.specs.read import read_job
from worker.information.vocabulary import statistics
from worker.models.adapters import prepare
from worker.models.reward_model import RewardModel
from worker.models.value_head import ValueHead
from worker.stages.next_token_loss import CHUNK, next_token_loss

BATCH, LENGTH = 2, 64
SHAPE = {"hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 4, "num_key_value_heads": 2}

# Within this factor, either way, of what autograd keeps: the formula counts layers by their kind, not operation by operation.
FACTOR = 1.35


def a_step(finetuning: dict[str, Any], model: dict[str, Any] | None = None, **training: Any) -> ResolvedStep:
    document = {
        "model": {"model_name_or_path": "tiny", "disable_gradient_checkpointing": True, **(model or {})},
        "data": {"dataset": "letters", "template": "alpaca", "cutoff_len": LENGTH},
        "finetuning": finetuning,
        "training": {"per_device_train_batch_size": BATCH, **training},
    }
    if training.get("fsdp"):
        document["resources"] = {"gpus": 2}
    return read_job(document).resolved.steps[0]


@pytest.fixture
def llama(make_llama: Callable[..., LlamaForCausalLM]) -> LlamaForCausalLM:
    return make_llama(**SHAPE)


def estimated(llama: LlamaForCausalLM, folder: Path, step: ResolvedStep, number: int = FLOAT, n_gpus: int = 1) -> Memory:
    llama.save_pretrained(folder / "tiny")
    model = models.find(folder, "tiny")
    tensors = weights.tensors_of(model)
    assert tensors is not None
    trainable = weights.trainable(tensors, step.finetuning, model)
    assert trainable is not None
    known = memory.estimate(tensors, model.config, step, trainable, number, n_gpus)
    assert known is not None
    return known


def a_step_of(stage: str, finetuning: dict[str, Any], **groups: Any) -> ResolvedStep:
    document = {
        "model": {"model_name_or_path": "tiny", "disable_gradient_checkpointing": True},
        "data": {"dataset": "letters", "template": "alpaca", "cutoff_len": LENGTH},
        "finetuning": {"stage": stage, **finetuning},
        "training": {"per_device_train_batch_size": BATCH},
        **groups,
    }
    return read_job(document).resolved.steps[0]


def bytes_of(tensors: Iterator[torch.Tensor]) -> int:
    """Of each storage once."""
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}
    return sum(storages.values())


@contextmanager
def kept() -> Iterator[dict[int, int]]:
    """The storages that autograd keeps for the backward pass, and their bytes."""
    found: dict[int, int] = {}
    alive = []

    def note(tensor: torch.Tensor) -> torch.Tensor:
        found[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        alive.append(tensor)  # an address must not be used again while we count
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        yield found


def step_once(model: Any, optimiser: torch.optim.Optimizer) -> tuple[int, int, int]:
    """(bytes kept for the backward pass without the loss's, of the loss, of gradients)"""
    ids = torch.randint(0, 300, (BATCH, LENGTH))
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    with kept() as layers:
        logits = model(input_ids=ids).logits
    with kept() as loss_alone:
        loss = torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), ids.flatten())
    loss.backward()
    gradients = bytes_of(parameter.grad for parameter in model.parameters() if parameter.grad is not None)
    optimiser.step()
    activations = sum(size for place, size in layers.items() if place not in own)
    return activations, sum(loss_alone.values()), gradients


CASES = {
    "full": {"finetuning_type": "full"},
    "freeze": {"finetuning_type": "freeze", "num_layer_trainable": 2},
    "lora": {"finetuning_type": "lora", "lora_rank": 4},
    "lora in bf16": {"finetuning_type": "lora", "lora_rank": 4, "lora_bf16_mode": True},
}


@pytest.mark.parametrize("case", CASES)
def test_weights_gradients_and_optimiser_are_what_the_worker_s_own_model_has(
    llama: LlamaForCausalLM, tmp_path: Path, case: str
) -> None:
    step = a_step(CASES[case])
    known = estimated(llama, tmp_path, step)
    model = prepare(llama, step.finetuning, gradient_checkpointing=False)
    optimiser = torch.optim.AdamW(parameter for parameter in model.parameters() if parameter.requires_grad)
    _, _, gradients = step_once(model, optimiser)
    assert known.weights == bytes_of(model.parameters())
    assert known.gradients == gradients
    moments = [value for state in optimiser.state.values() for name, value in state.items() if name != "step"]
    assert known.optimiser == bytes_of(iter(moments))


def test_weights_of_half_precision_lie_beside_an_adapter_in_fp32(llama: LlamaForCausalLM, tmp_path: Path) -> None:
    step = a_step(CASES["lora"])
    known = estimated(llama, tmp_path, step, number=HALF)
    model = prepare(llama.to(torch.bfloat16), step.finetuning, gradient_checkpointing=False)
    assert known.weights == bytes_of(model.parameters())


@pytest.mark.parametrize("double", [True, False])
def test_four_bit_weights_are_packed_with_their_scales(llama: LlamaForCausalLM, tmp_path: Path, double: bool) -> None:
    step = a_step(CASES["lora"], {"quantization_bit": 4, "double_quantization": double})
    known = estimated(llama, tmp_path, step, number=HALF)
    packed = 0
    for name, parameter in llama.named_parameters():
        if name.endswith("_proj.weight"):
            data, state = quantize_4bit(parameter.data, quant_type="nf4", compress_statistics=double, blocksize=64)
            scales = state.absmax.nbytes + (state.state2.absmax.nbytes if double else 0)
            packed += data.nbytes + scales
        else:
            packed += parameter.numel() * HALF
    adapter = known.gradients  # as many numbers, as wide
    assert known.weights == packed + adapter


@pytest.mark.parametrize(("optim", "made"), [("sgd", torch.optim.SGD)])
def test_plain_sgd_keeps_nothing(llama: LlamaForCausalLM, tmp_path: Path, optim: str, made: Any) -> None:
    optimiser = made(llama.parameters(), lr=0.1)
    step_once(llama, optimiser)
    assert not any(value is not None for state in optimiser.state.values() for value in state.values())
    assert estimated(llama, tmp_path, a_step(CASES["full"], optim=optim)).optimiser == 0


@pytest.mark.parametrize("case", ["full", "lora"])
def test_activations_are_near_what_autograd_keeps(llama: LlamaForCausalLM, tmp_path: Path, case: str) -> None:
    known = estimated(llama, tmp_path, a_step(CASES[case]))
    activations = kept_by(llama, case, checkpointing=False)
    assert activations / FACTOR <= known.activations <= activations * FACTOR, (activations, known.activations)


@pytest.mark.parametrize("case", ["full", "lora"])
def test_with_gradient_checkpointing_layers_keep_their_inputs_and_one_at_a_time_is_whole(
    make_llama: Callable[..., LlamaForCausalLM], llama: LlamaForCausalLM, tmp_path: Path, case: str
) -> None:
    """The forward pass keeps the inputs; in the backward pass one layer of all is computed again beside them."""
    known = estimated(llama, tmp_path, a_step(CASES[case], {"disable_gradient_checkpointing": False}))
    whole = kept_by(make_llama(**SHAPE), case, checkpointing=False)
    inputs = kept_by(llama, case, checkpointing=True)
    peak = inputs + whole / llama.config.num_hidden_layers
    assert inputs < whole / 3
    assert peak / FACTOR <= known.activations <= peak * FACTOR, (peak, known.activations)


def kept_by(llama: LlamaForCausalLM, case: str, checkpointing: bool) -> int:
    model = prepare(llama, a_step(CASES[case]).finetuning, gradient_checkpointing=checkpointing).train()
    return step_once(model, torch.optim.SGD(model.parameters(), lr=0.1))[0]


def test_the_logits_come_with_their_log_probabilities_and_gradients(llama: LlamaForCausalLM, tmp_path: Path) -> None:
    known = estimated(llama, tmp_path, a_step(CASES["full"]))
    _, of_loss, _ = step_once(llama, torch.optim.SGD(llama.parameters(), lr=0.1))
    logits = BATCH * LENGTH * 300 * FLOAT
    assert logits <= of_loss <= 1.05 * logits  # the log-probabilities, and the labels
    assert known.logits == 3 * logits


@pytest.mark.parametrize("case", ["full", "lora"])
def test_in_fp32_logits_are_made_of_so_many_tokens_at_once(llama: LlamaForCausalLM, tmp_path: Path, case: str) -> None:
    step = a_step(CASES[case], per_device_train_batch_size=8)
    model = prepare(llama, step.finetuning, gradient_checkpointing=False)
    loss = next_token_loss(model, step.training)
    assert loss is not None
    ids = torch.randint(0, 300, (8, LENGTH))
    with Largest(300) as largest:
        loss(model(input_ids=ids, output_hidden_states=True, logits_to_keep=1), ids).backward()
    assert largest.bytes == llama.lm_head.weight.nbytes < 8 * (LENGTH - 1) * 300 * FLOAT, "the head's own, and its gradient"
    head = 300 * SHAPE["hidden_size"] if case == "full" else 0
    assert estimated(llama, tmp_path, step).logits == FLOAT * (3 * memory.LOSS_TOKENS * 300 + head)
    assert memory.LOSS_TOKENS == CHUNK


class Largest(TorchDispatchMode):
    """Of the storages of tensors that have this many columns or rows, outside the kernel that makes the loss in parts."""

    def __init__(self, width: int):
        super().__init__()
        self.bytes = 0
        self._width = width

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, torch.Tensor) and self._width in tensor.shape:
                self.bytes = max(self.bytes, tensor.untyped_storage().nbytes())
        return made


@pytest.mark.parametrize(
    ("training", "config"),
    [
        ({"label_smoothing_factor": 0.1}, {}),
        ({"fsdp": True}, {}),
        ({}, {"final_logit_softcapping": 30.0}),
    ],
)
def test_all_logits_are_made_where_the_loss_is_the_models_own(
    llama: LlamaForCausalLM, tmp_path: Path, training: dict[str, Any], config: dict[str, Any]
) -> None:
    vars(llama.config).update(config)
    step = a_step(CASES["full"], per_device_train_batch_size=8, **training)
    assert estimated(llama, tmp_path, step).logits >= 3 * FLOAT * 8 * LENGTH * 300


def test_all_logits_are_made_by_a_head_in_half_precision(llama: LlamaForCausalLM, tmp_path: Path) -> None:
    step = a_step(CASES["lora"], per_device_train_batch_size=8)
    assert estimated(llama, tmp_path, step, number=HALF).logits >= 3 * FLOAT * 8 * LENGTH * 300


def test_under_autocast_a_head_that_trains_is_in_fp32_and_so_is_its_loss(llama: LlamaForCausalLM, tmp_path: Path) -> None:
    """As accelerate has it: the forward pass is under autocast and answers fp32, and the loss is made outside."""
    step = a_step(CASES["full"], per_device_train_batch_size=8, bf16=True)
    loss = next_token_loss(llama, step.training)
    assert loss is not None
    ids = torch.randint(0, 300, (8, LENGTH))
    forward = convert_outputs_to_fp32(torch.autocast("cpu", torch.bfloat16)(llama.forward))
    with Largest(300) as largest:
        loss(forward(input_ids=ids, output_hidden_states=True, logits_to_keep=1), ids).backward()
    assert largest.bytes == llama.lm_head.weight.nbytes < 8 * (LENGTH - 1) * 300 * FLOAT
    plain = a_step(CASES["full"], per_device_train_batch_size=8)
    assert estimated(llama, tmp_path, step, number=HALF).logits == estimated(llama, tmp_path, plain, number=HALF).logits


@pytest.mark.parametrize("checkpointing", [True, False])
def test_autocast_s_copies_of_the_weights_stay_where_no_layer_is_computed_anew(
    llama: LlamaForCausalLM, tmp_path: Path, checkpointing: bool
) -> None:
    step = a_step(CASES["full"], {"disable_gradient_checkpointing": not checkpointing}, bf16=True)
    model = prepare(llama, step.finetuning, gradient_checkpointing=checkpointing).train()
    shapes = {shape for parameter in model.parameters() for shape in (parameter.shape, parameter.shape[::-1])}
    ids = torch.randint(0, 300, (BATCH, LENGTH))
    alive: list[torch.Tensor] = []

    def note(tensor: torch.Tensor) -> torch.Tensor:
        alive.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor), torch.autocast("cpu", torch.bfloat16):
        model(input_ids=ids)
    copies = [tensor for tensor in alive if tensor.dtype == torch.bfloat16 and tensor.ndim == 2 and tensor.shape in shapes]
    found = sum({tensor.untyped_storage().data_ptr(): tensor.nbytes for tensor in copies}.values())
    linear = sum(p.numel() for name, p in model.named_parameters() if name.endswith("_proj.weight"))
    assert (found >= HALF * linear) is not checkpointing
    known = estimated(llama, tmp_path, step, number=HALF)
    assert known.weights == bytes_of(model.parameters()) * (1 if checkpointing else 1.5)


def test_eight_bit_layers_hold_on_to_what_comes_into_them(llama: LlamaForCausalLM, tmp_path: Path) -> None:
    eight = a_step(CASES["lora"], {"quantization_bit": 8, "disable_gradient_checkpointing": False})
    four = a_step(CASES["lora"], {"quantization_bit": 4, "disable_gradient_checkpointing": False})
    more = estimated(llama, tmp_path, eight).activations - estimated(llama, tmp_path, four).activations
    as_quantized = BitsAndBytesConfig(load_in_8bit=True)
    quantized = AutoModelForCausalLM.from_pretrained(tmp_path / "tiny", quantization_config=as_quantized, dtype=torch.float32)
    model = prepare(quantized, eight.finetuning, gradient_checkpointing=True).train()
    came: list[weakref.ref[torch.Tensor]] = []
    for layer in model.modules():
        if isinstance(layer, Linear8bitLt):
            layer.register_forward_pre_hook(lambda _, given: came.append(weakref.ref(given[0])))
    outputs = model(input_ids=torch.randint(0, 300, (BATCH, LENGTH)))
    held = bytes_of(tensor for tensor in (ref() for ref in came) if tensor is not None)
    assert outputs.logits.requires_grad
    assert held == more


def test_a_step_that_measures_holds_a_model_and_its_bases_head_and_nothing_that_trains(
    llama: LlamaForCausalLM, tmp_path: Path
) -> None:
    document = {
        "do": "measure",
        "model": {"model_name_or_path": "tiny"},
        "data": {"template": "alpaca", "cutoff_len": LENGTH},
        "measures": {"dataset": "letters"},
    }
    llama.save_pretrained(tmp_path / "tiny")
    model = models.find(tmp_path, "tiny")
    tensors = weights.tensors_of(model)
    assert tensors is not None
    known = memory.estimate_of_measuring(tensors, model.config, read_job(document).resolved.steps[0])
    assert known is not None
    head = llama.lm_head.weight.numel()
    assert known.weights == HALF * (weights.count(tensors) + head)
    assert known.gradients == known.optimiser == 0
    assert known.logits == memory.MEASURED_LOGITS_BYTES == 7 * 4 * statistics.GPU_TILE


def test_a_model_that_four_gpus_share_is_a_quarter_on_each_and_whole_beside_it_where_it_is_measured(
    llama: LlamaForCausalLM, tmp_path: Path
) -> None:
    alone, shared = (
        estimated(llama, tmp_path, a_step({"finetuning_type": "full"}, **training), n_gpus=4) for training in ({}, {"fsdp": True})
    )
    assert shared.gradients == alone.gradients // 4
    assert shared.optimiser == alone.optimiser // 4
    assert shared.weights == alone.weights // 4 + alone.weights
    assert (shared.activations, shared.logits) == (alone.activations, alone.logits)


# -- of the other stages -----------------------------------------------------------------------------------------------


def beside(folder: Path, llama: LlamaForCausalLM, **finetuning: Any) -> int | None:
    """Of a job of one step, whose model is "tiny"."""
    llama.save_pretrained(folder / "models" / "tiny")
    document = {
        "model": {"model_name_or_path": "tiny"},
        "data": {"dataset": "letters", "template": "alpaca", "cutoff_len": LENGTH},
        "finetuning": finetuning,
    }
    resolved = read_job(document).resolved
    tensors = weights.tensors_of(models.find(folder / "models", "tiny"))
    assert tensors is not None
    return memory.beside_it(Roots(folder / "models", folder, hub=True), resolved, tensors)(resolved.steps[0])


def test_models_that_are_asked_beside_a_step_are_counted_as_they_are_held(
    llama: LlamaForCausalLM, make_llama: Callable[..., LlamaForCausalLM], tmp_path: Path
) -> None:
    other = make_llama()
    other.save_pretrained(tmp_path / "models" / "other")
    own, others = (sum(p.numel() for p in model.parameters()) for model in (llama, other))
    packed = sum(p.numel() for name, p in other.named_parameters() if name.endswith("_proj.weight"))
    scored = {"stage": "ppo", "reward_model": "other", "reward_model_type": "full"}
    full = {"finetuning_type": "full"}
    assert beside(tmp_path, llama, stage="dpo") == 0, "an adapter is switched off"
    assert beside(tmp_path, llama, stage="dpo", **full) == own * FLOAT, "a second copy of what trains"
    assert beside(tmp_path, llama, stage="dpo", ref_model="other") == others * HALF
    assert beside(tmp_path, llama, stage="dpo", ref_model="other", **full) == others * HALF
    eight = beside(tmp_path, llama, stage="dpo", ref_model="other", ref_model_quantization_bit=8)
    assert eight is not None
    assert (others - packed) * HALF + packed < eight < others * HALF
    assert beside(tmp_path, llama, **scored) == others * HALF
    assert beside(tmp_path, llama, **scored, ref_model="tiny") == (others + own) * HALF
    assert beside(tmp_path, llama, **scored, **full) == others * HALF + own * FLOAT
    assert beside(tmp_path, llama, stage="ppo", reward_model="other") == 0, "an adapter is swapped in"
    assert beside(tmp_path, llama, stage="dpo", ref_model="org/on-a-hub") is None


@pytest.mark.parametrize("finetuning", [{"finetuning_type": "full"}, {"finetuning_type": "lora", "lora_rank": 4}])
def test_a_reward_model_trains_on_two_texts_a_row_and_makes_no_logits(
    llama: LlamaForCausalLM, tmp_path: Path, finetuning: dict[str, Any]
) -> None:
    step = a_step_of("rm", finetuning)
    known = estimated(llama, tmp_path, step)
    model = RewardModel(prepare(llama, step.finetuning, gradient_checkpointing=False).train(), ValueHead(64))
    ids = torch.randint(0, 300, (2 * BATCH, LENGTH))
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    with kept() as found:
        model(ids, torch.ones_like(ids))
    activations = sum(size for place, size in found.items() if place not in own)
    assert activations / FACTOR <= known.activations <= activations * FACTOR, (activations, known.activations)
    assert known.logits == 0


@pytest.mark.parametrize(("stage", "loss", "n_texts"), [("sft", "sigmoid", 1), ("dpo", "sigmoid", 2), ("dpo", "kto", 2)])
def test_a_pair_is_two_texts(llama: LlamaForCausalLM, tmp_path: Path, stage: str, loss: str, n_texts: int) -> None:
    one = estimated(llama, tmp_path, a_step({"lora_rank": 4})).activations
    losses = {"dpo_loss": loss} if stage == "dpo" else {}
    assert estimated(llama, tmp_path, a_step_of(stage, {"lora_rank": 4, **losses})).activations == n_texts * one


def test_the_logits_of_pairs_lie_beside_those_of_the_reference(llama: LlamaForCausalLM, tmp_path: Path) -> None:
    """The policy's and the sum over its words wait for the backward pass while the reference's are there."""
    numbers = 2 * BATCH * LENGTH * 300
    dpo = a_step_of("dpo", {"lora_rank": 4})
    assert estimated(llama, tmp_path, dpo).logits == numbers * 4 * FLOAT
    assert estimated(llama, tmp_path, dpo, number=HALF).logits == numbers * ((HALF + FLOAT) + (HALF + 2 * FLOAT))


def test_ppo_keeps_what_it_writes_with_its_response_behind_a_prompt(llama: LlamaForCausalLM, tmp_path: Path) -> None:
    scored = {"reward_model": "judge", "lora_rank": 4}
    alone = estimated(llama, tmp_path, a_step({"lora_rank": 4}))
    known = estimated(llama, tmp_path, a_step_of("ppo", scored, generating={"max_new_tokens": LENGTH}))
    assert known.activations == 2 * alone.activations
    assert known.logits == 2 * BATCH * LENGTH * 300 * (FLOAT + 2 * FLOAT)
    whole = estimated(llama, tmp_path, a_step_of("ppo", scored, generating={"max_new_tokens": 0, "max_length": LENGTH}))
    assert whole.activations == alone.activations
