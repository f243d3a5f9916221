"""The reference is the model that it is said to be, whatever has been trained since."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import GPT2Config, GPT2LMHeadModel

from service.specs.companions import companion
from service.specs.read import read_job
from tests.specs.job_documents import a_job
from worker.models.assembly import to_train
from worker.models.reference import next_token_log_probs, reference
from worker.models.start import SavedAdapter, Start

pytestmark = [
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),  # peft's own call
    pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to False"),  # peft's way to say that it has seen a GPT-2
]

CPU = torch.device("cpu")
IDS = torch.tensor([[5, 6, 7, 8, 9], [20, 21, 22, 1, 1]])
MASK = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
REAL = MASK[:, 1:].bool()  # what is said of padding does not matter


@pytest.fixture
def saved(tmp_path, make_llama, tokenizer):
    """Folders of models and adapters by name."""

    def save(name, model):
        model.save_pretrained(tmp_path / name)
        tokenizer.save_pretrained(tmp_path / name)
        return tmp_path / name

    save("tiny", make_llama())
    save("other", make_llama(seed=1))
    return save


def the_step(**finetuning):
    (step,) = read_job(a_job(finetuning={"lora_rank": 2} | finetuning)).resolved.steps
    return step


def log_probs_of(model):
    with torch.no_grad():
        logits = model.eval()(input_ids=IDS, attention_mask=MASK).logits
    return logits[:, :-1].log_softmax(-1).gather(2, IDS[:, 1:, None]).squeeze(2)


def moved(model):
    """Everything that trains, somewhere else: the model says something else then."""
    before = log_probs_of(model)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += 0.1 * torch.randn_like(parameter, generator=None)
    assert not torch.allclose(log_probs_of(model)[REAL], before[REAL], atol=1e-2)
    return model.train()


def trained(start, step, tokenizer):
    return to_train(start, step, tokenizer, CPU, lambda sentence: None)


def test_log_probs_are_those_of_each_next_token():
    """Logits 0 and ln 3 of two tokens: p = 1/4 and 3/4. The last position predicts nothing that is there."""
    logits = torch.tensor([[[0.0, 3.0], [0.0, 0.0], [9.0, 9.0]]]).where(torch.tensor([True, False]), torch.tensor(3.0).log())
    found = next_token_log_probs(logits, torch.tensor([[0, 1, 0]]))
    assert torch.allclose(found.exp(), torch.tensor([[0.75, 0.25]]))


@pytest.mark.parametrize("finetuning_type", ["lora", "freeze", "full"])
def test_with_none_named_it_is_what_the_step_began_with_however_far_training_has_come(
    saved, tmp_path, make_llama, tokenizer, finetuning_type
):
    given = {"finetuning_type": finetuning_type} | ({"num_layer_trainable": 1} if finetuning_type == "freeze" else {})
    (step,) = read_job(a_job(finetuning=given)).resolved.steps
    start = Start(tmp_path / "tiny")
    model = trained(start, step, tokenizer)
    ref = reference(model, start, step, None, tokenizer, CPU)
    moved(model)
    found = ref.log_probs(IDS, MASK)
    assert found.dtype == torch.float32
    assert found.shape == (2, 4)
    assert torch.allclose(found[REAL], log_probs_of(make_llama())[REAL], atol=1e-6)
    assert not found.requires_grad
    assert (ref.model is model) == (finetuning_type == "lora"), "an adapter needs no second copy"


def test_asking_it_leaves_the_model_as_it_was(saved, tmp_path, tokenizer):
    start, step = Start(tmp_path / "tiny"), the_step()
    model = trained(start, step, tokenizer)
    ref = reference(model, start, step, None, tokenizer, CPU)
    moved(model)
    before = log_probs_of(model)
    model.train()
    in_training = [module.training for module in model.modules()]
    trains = [parameter.requires_grad for parameter in model.parameters()]
    ref.log_probs(IDS, MASK)
    assert [module.training for module in model.modules()] == in_training
    assert [parameter.requires_grad for parameter in model.parameters()] == trains
    assert torch.equal(log_probs_of(model), before), "the adapter is on again"


def test_dropout_is_off_in_it(tmp_path, tokenizer):
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=300, n_positions=64, n_embd=32, n_layer=2, n_head=4, resid_pdrop=0.5))
    model.save_pretrained(tmp_path / "gpt2")
    start, step = Start(tmp_path / "gpt2"), the_step()
    ref = reference(trained(start, step, tokenizer).train(), start, step, None, tokenizer, CPU)
    assert torch.equal(ref.log_probs(IDS, MASK), ref.log_probs(IDS, MASK))


def test_a_model_that_is_named_is_asked_with_its_adapters(saved, tmp_path, make_llama, tokenizer):
    adapted = get_peft_model(make_llama(seed=1), LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj", "v_proj"]))
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, generator=torch.Generator().manual_seed(3))
    adapted.save_pretrained(tmp_path / "polite")
    start, step = Start(tmp_path / "tiny"), the_step(stage="dpo", ref_model="other", ref_model_adapters="polite")
    beside = companion(step, "ref").step
    named = Start(tmp_path / "other", continued=SavedAdapter("polite", tmp_path / "polite"))
    ref = reference(trained(start, step, tokenizer), start, step, (named, beside), tokenizer, CPU)
    assert torch.allclose(ref.log_probs(IDS, MASK)[REAL], log_probs_of(adapted)[REAL], atol=1e-5)
    assert not any(parameter.requires_grad for parameter in ref.model.parameters())


def test_an_adapter_that_training_goes_on_with_is_not_in_it(saved, tmp_path, make_llama, tokenizer):
    first = trained(Start(tmp_path / "tiny"), the_step(), tokenizer)
    moved(first).save_pretrained(tmp_path / "polite")
    start = Start(tmp_path / "tiny", continued=SavedAdapter("polite", tmp_path / "polite"))
    model = trained(start, the_step(), tokenizer)
    ref = reference(model, start, the_step(), None, tokenizer, CPU)
    assert torch.allclose(ref.log_probs(IDS, MASK)[REAL], log_probs_of(make_llama())[REAL], atol=1e-6)
    assert not torch.allclose(log_probs_of(model)[REAL], log_probs_of(make_llama())[REAL], atol=1e-2)


@pytest.mark.parametrize("finetuning_type", ["lora", "full"])
def test_it_computes_as_the_training_beside_it_does(saved, tmp_path, tokenizer, finetuning_type):
    """Equal weights give equal numbers: in half precision, and where attention goes in shifted groups."""
    document = a_job(model={"shift_attn": True}, data={"cutoff_len": 8}, finetuning={"finetuning_type": finetuning_type})
    (step,) = read_job(document | {"training": {"bf16": True}}).resolved.steps
    start = Start(tmp_path / "tiny")
    model = trained(start, step, tokenizer).train()
    ref = reference(model, start, step, None, tokenizer, CPU)
    with torch.autocast("cpu", torch.bfloat16):
        own = next_token_log_probs(model(input_ids=IDS, attention_mask=MASK).logits, IDS)
    assert torch.equal(ref.log_probs(IDS, MASK)[REAL], own[REAL])
    assert not torch.equal(log_probs_of(model)[REAL], own[REAL]), "full attention in fp32 would say something else"


def test_asking_a_model_that_does_not_train_leaves_none_of_it_in_training(saved, tmp_path, tokenizer):
    document = a_job(model={"shift_attn": True}, data={"cutoff_len": 8}, finetuning={"finetuning_type": "full"})
    (step,) = read_job(document).resolved.steps
    start = Start(tmp_path / "tiny")
    ref = reference(trained(start, step, tokenizer), start, step, None, tokenizer, CPU)
    ref.log_probs(IDS, MASK)
    assert not any(module.training for module in ref.model.modules())
