"""What PPO is for: a policy that comes to write what is rewarded, and goes no further from its start than it may.

The reward is the share of the letter a in a response, which somebody's server counts. One letter in nine is an a by chance.
"""

import pytest
import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from tests.fake_rewards import fake_rewards, scores
from tests.worker.stages.attempts import Host, training

LETTERS = "?abcdefgh"


@pytest.fixture
def host(tmp_path):
    vocabulary = {token: index for index, token in enumerate(["<s>", "</s>", "<unk>", *LETTERS])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    backend.decoder = decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    tokenizer.save_pretrained(tmp_path / "tokenizer")

    def make_llama():
        torch.manual_seed(0)
        shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
        return LlamaForCausalLM(LlamaConfig(vocab_size=len(vocabulary), max_position_embeddings=64, **shape))

    host = Host(tmp_path / "host", make_llama, tmp_path / "tokenizer")
    host.add_dataset("asked", [{"instruction": f"{letter}?", "output": "a"} for letter in "abcdefgh"])
    return host


def share_of_a(asked):
    """Of what stands behind the question mark."""
    responses = [text.partition("?")[2] for text in asked["messages"]]
    return scores([response.count("a") / max(1, len(response)) for response in responses])


def learn(host, n_updates, n_texts, learning_rate=3e-3, **finetuning):
    """The points of a job that tells each of its updates of as many texts, in batches of a fourth of them at most."""
    batch = min(n_texts // 2, 512)
    with fake_rewards() as server:
        server.answers = [share_of_a]
        host.reward_hosts = server.host
        rates = {"learning_rate": learning_rate, "lr_scheduler_type": "constant"}
        job = {
            "model": {"model_name_or_path": "tiny"},
            "data": {"template": "empty", "dataset": "asked", "val_size": 2, "cutoff_len": 32},
            "finetuning": {
                "stage": "ppo",
                "finetuning_type": "full",
                "reward_model": server.url,
                "reward_model_type": "api",
                "ppo_buffer_size": n_texts // batch,
                **finetuning,
            },
            "training": training(per_device_train_batch_size=batch, max_steps=n_updates, save_steps=n_updates, **rates),
            "generating": {"temperature": 1.0, "top_p": 1.0, "top_k": 0, "max_new_tokens": 8},
        }
        return list(host.done(job).points().values())


def test_the_mean_score_rises_from_chance_and_the_kl_comes_to_its_target(host):
    points = learn(host, n_updates=12, n_texts=256, ppo_target=4.5, ppo_score_norm=True)
    assert points[0]["score"] < 0.15
    assert points[0]["kl"] == pytest.approx(0, abs=1e-5)
    assert [point["score"] for point in points[-3:]] == pytest.approx([1, 1, 1], abs=0.1)
    assert [point["kl"] for point in points[-3:]] == pytest.approx([4.5] * 3, rel=0.15)
    assert points[-1]["entropy"] < 0.5 * points[0]["entropy"]
    assert points[-1]["explained_variance"] > 0.2


@pytest.mark.long
def test_the_kl_is_held_at_a_target_far_below_where_it_goes_by_itself(host):
    """The coefficient moves by 2 % an update of 1024 texts at most, so the KL is beyond the target first, and is brought back."""
    free = learn(host, n_updates=30, n_texts=1024, ppo_target=1e9, ppo_epochs=2)
    held = learn(host, n_updates=60, n_texts=1024, ppo_target=0.5, ppo_epochs=2)
    assert free[-1]["kl"] > 3
    assert max(point["kl"] for point in held) > 1
    assert sum(point["kl"] for point in held[-15:]) / 15 == pytest.approx(0.5, abs=0.1)
    assert free[-1]["kl_coef"] < 0.15 < 0.25 < held[-1]["kl_coef"]
    assert 0.2 < held[-1]["score"] < free[-1]["score"], "what is held to its reference learns less"
