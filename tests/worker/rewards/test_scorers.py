"""A response's score is the one that the rm stage's own model gives it, whichever way that model is brought."""

from dataclasses import replace

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

from service.specs.companions import companions
from service.specs.job import JobSpec, resolve
from service.specs.reasons import Reason
from tests.worker.stages.attempts import Host, a_preference_job, training
from worker.failures import JobFailure
from worker.models import value_head
from worker.models.loading import load_tokenizer
from worker.models.start import SavedAdapter, Start
from worker.rewards.scorer import padded_right
from worker.rewards.swapped import lay_swapped
from worker.rewards.whole import load_whole

# peft 0.21 asks transformers for a property by its old name
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")

CPU = torch.device("cpu")
TEXTS = [[7, 8, 9, 30, 1], [7, 8, 41], [50, 2, 9, 9, 9, 9, 4]]


@pytest.fixture
def host(tmp_path, make_llama, tokenizer_folder):
    return Host(tmp_path, make_llama, tokenizer_folder)


def trained(host, **finetuning):
    """The folder of a reward model."""
    values = {"training": training(max_steps=6, save_steps=6), "measures": {"names": ""}}
    job = a_preference_job(finetuning={"stage": "rm"} | finetuning, **values)
    attempt = host.done(job)
    return host.folder(attempt)


def a_ppo_step(**finetuning):
    spec = {"model": {"model_name_or_path": "tiny"}, "data": {"template": "default", "dataset": "pets"}}
    spec["finetuning"] = {"stage": "ppo", "reward_model": "scorer"} | finetuning
    (step,) = resolve(JobSpec.model_validate(spec)).steps
    return step


def batch(side):
    """TEXTS with what padding there is on that side."""
    width = max(map(len, TEXTS)) + 2
    rows = [[1] * (width - len(text)) for text in TEXTS]
    pairs = [(pad, text) if side == "left" else (text, pad) for pad, text in zip(rows, TEXTS, strict=True)]
    ids = torch.tensor([[*one, *other] for one, other in pairs])
    mask = torch.tensor([[int(part is text) for part in pair for _ in part] for pair, text in zip(pairs, TEXTS, strict=True)])
    return ids, mask


@torch.no_grad()
def expected(model, folder):
    """Text by text, with transformers' own hidden states."""
    head = value_head.load(folder, 32).summary
    return [
        float(head(model(input_ids=torch.tensor([text]), output_hidden_states=True).hidden_states[-1][0, -1])) for text in TEXTS
    ]


def test_padding_goes_behind_each_row_and_what_all_rows_lack_goes():
    ids, mask = padded_right(torch.tensor([[1, 1, 7, 8], [1, 5, 6, 9]]), torch.tensor([[0, 0, 1, 1], [0, 1, 1, 1]]))
    assert ids.tolist() == [[7, 8, 1], [5, 6, 9]]
    assert mask.tolist() == [[1, 1, 0], [1, 1, 1]]


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_whole_reward_model_scores_as_it_was_trained(host, side):
    folder = trained(host, finetuning_type="full")
    scorer = load_whole(Start(folder), a_ppo_step(), load_tokenizer(folder), CPU)
    model = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True).eval()
    scores = scorer.score(*batch(side), [], [])
    assert scores.tolist() == pytest.approx(expected(model, folder), abs=1e-5)
    assert len(set(scores.tolist())) == 3
    assert (scores.dtype, scores.requires_grad) == (torch.float32, False)


def test_adapters_of_a_whole_reward_model_lie_on_it_and_the_last_has_the_head(host):
    folder = trained(host, lora_rank=2)
    start = Start(host.models / "tiny", continued=SavedAdapter("scorer", folder))
    scorer = load_whole(start, a_ppo_step(), load_tokenizer(folder), CPU)
    base = AutoModelForCausalLM.from_pretrained(host.models / "tiny", local_files_only=True).eval()
    model = PeftModel.from_pretrained(base, folder).eval()
    assert scorer.score(*batch("left"), [], []).tolist() == pytest.approx(expected(model, folder), abs=1e-5)


def test_a_whole_reward_model_may_be_quantized(host):
    folder = trained(host, finetuning_type="full")
    step = a_ppo_step(reward_model_type="full", reward_model_quantization_bit=8)
    (beside,) = companions(step)
    scorer = load_whole(Start(folder), beside.step, load_tokenizer(folder), CPU)
    assert scorer._model.is_quantized
    plain = load_whole(Start(folder), a_ppo_step(), load_tokenizer(folder), CPU).score(*batch("left"), [], [])
    scores = scorer.score(*batch("left"), [], [])
    assert scores.tolist() != plain.tolist()
    assert scores.tolist() == pytest.approx(plain.tolist(), abs=0.2)


@pytest.fixture
def policy(host):
    """The model that trains, with an adapter that does something."""
    base = AutoModelForCausalLM.from_pretrained(host.models / "tiny", local_files_only=True)
    model = get_peft_model(base, LoraConfig(task_type="CAUSAL_LM", r=3, target_modules=["q_proj", "down_proj"], lora_dropout=0.5))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.5)
    return model.train()


def logits(policy):
    policy.eval()
    with torch.no_grad():
        found = policy(input_ids=torch.tensor([TEXTS[0]])).logits
    policy.train()
    return found


def test_a_reward_adapter_scores_in_the_place_of_the_one_that_trains_and_leaves_it_as_it_was(host, policy, tmp_path):
    folder = trained(host, lora_rank=2)
    before = logits(policy)
    trains = {name for name, parameter in policy.named_parameters() if parameter.requires_grad}
    scorer = lay_swapped(Start(host.models / "tiny", continued=SavedAdapter("scorer", folder)), policy, CPU)
    base = AutoModelForCausalLM.from_pretrained(host.models / "tiny", local_files_only=True).eval()
    policy.save_pretrained(tmp_path / "before it scored")
    scores = scorer.score(*batch("left"), [], [])
    assert scores.tolist() == pytest.approx(expected(PeftModel.from_pretrained(base, folder).eval(), folder), abs=1e-5)
    assert torch.equal(scorer.score(*batch("right"), [], []), scores), "no dropout"
    assert torch.equal(logits(policy), before)
    assert {name for name, parameter in policy.named_parameters() if parameter.requires_grad} == trains
    assert policy.training
    policy.save_pretrained(tmp_path / "saved")
    for folder in tmp_path / "saved", tmp_path / "before it scored":
        names = {path.name for path in folder.iterdir()}
        assert names == {"README.md", "adapter_config.json", "adapter_model.safetensors"}, "of the adapter that trains alone"


def test_a_score_that_fails_leaves_the_adapter_that_trains_in_its_place(host, policy):
    scorer = lay_swapped(Start(host.models / "tiny", continued=SavedAdapter("scorer", trained(host, lora_rank=2))), policy, CPU)
    before = logits(policy)
    with pytest.raises(IndexError):
        scorer.score(torch.tensor([[10_000]]), torch.tensor([[1]]), [], [])
    assert torch.equal(logits(policy), before)
    assert any(parameter.requires_grad for parameter in policy.parameters())


def test_a_reward_model_without_a_head_and_one_of_another_shape_are_refused(host, policy, make_llama):
    folder = trained(host, lora_rank=2)
    (folder / "value_head.safetensors").unlink()
    adapter = SavedAdapter("scorer", folder)
    with pytest.raises(JobFailure, match="The reward model 'scorer' has no value_head") as caught:
        lay_swapped(Start(host.models / "tiny", continued=adapter), policy, CPU)
    assert caught.value.reason == Reason.BAD_MODEL
    wide = get_peft_model(make_llama(hidden_size=64), LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["q_proj"]))
    with pytest.raises(JobFailure, match="does not fit the model"):
        lay_swapped(Start(host.models / "tiny", continued=adapter), wide, CPU)
    with pytest.raises(JobFailure, match="The reward model 'tiny' has no value_head"):
        load_whole(replace(Start(host.models / "tiny")), a_ppo_step(), load_tokenizer(host.models / "tiny"), CPU)
