import math

import pytest

from service.specs.reasons import Reason
from tests.worker.stages.attempts import a_job, a_pretraining_job
from worker.failures import JobFailure
from worker.run import Stopped
from worker.stages import generating

SAID = [{"role": "user", "content": "what says the cat"}]


def a_generating_job(**groups):
    """An answer of the tiny model to one question, drawn."""
    generating = {"max_new_tokens": 8} | groups.pop("generating", {})
    data = {"template": "default"} | groups.pop("data", {})
    data = {name: value for name, value in data.items() if value is not None}
    return {
        "do": "generate",
        "messages": SAID,
        "model": {"model_name_or_path": "tiny"},
        "data": data,
        "generating": generating,
    } | groups


def summary(attempt):
    return attempt.of("step")[-1]["summary"]


def test_the_pieces_are_the_text_and_the_summary_has_what_it_cost(host):
    attempt = host.done(a_generating_job(generating={"max_new_tokens": 40}))
    pieces = attempt.of("piece")
    assert [piece["number"] for piece in pieces] == list(range(len(pieces)))
    assert len(pieces) > 1
    told = summary(attempt)
    assert "".join(piece["text"] for piece in pieces) == told["text"]
    assert 1 <= told["tokens"] <= 40
    assert told["log_probability"] < 0 < told["entropy"] < math.log2(300)
    assert told["finish_reason"] == ("stop" if told["tokens"] < 40 else "length")
    assert attempt.of("artifact") == attempt.checkpoints() == attempt.of("measurement") == []


def test_the_seed_repeats_a_text_and_another_writes_another(host):
    texts = [summary(host.done(a_generating_job(training={"seed": seed})))["text"] for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]


def test_a_checkpoint_answers_what_it_has_learned_in_its_own_template(host):
    training = {"max_steps": 60, "save_steps": 60, "learning_rate": 1e-2, "per_device_train_batch_size": 4}
    document = a_job(data={"val_size": 0}, training=training, measures={"names": []})
    document["finetuning"] = {"finetuning_type": "full"}
    job_id = host.remember(document, host.done(document))
    greedy = {"generating": {"do_sample": False}, "measures": {"checkpoints": f"{job_id}/sft/60"}}
    answers = []
    for animal in ("cat", "dog", "fox"):
        messages = [{"role": "user", "content": f"what says the {animal}"}]
        answers.append(summary(host.done(a_generating_job(messages=messages, **greedy))))
    assert [told["text"] for told in answers] == ["the cat", "the dog", "the fox"]
    assert {told["finish_reason"] for told in answers} == {"stop"}
    earlier = [*SAID, {"role": "assistant", "content": "the cat"}, *SAID]
    longer = summary(host.done(a_generating_job(messages=earlier, **greedy)))
    assert longer["prompt_tokens"] > 2 * answers[0]["prompt_tokens"] - 5


def test_a_checkpoint_of_the_stage_pt_goes_on_with_a_text(host):
    training = {"max_steps": 60, "save_steps": 60, "learning_rate": 1e-2}
    document = a_pretraining_job(data={"val_size": 0}, training=training, measures={"names": []})
    job_id = host.remember(document, host.done(document))
    job = a_generating_job(
        messages=[{"role": "user", "content": "the quick brown"}],
        data={"template": None},
        finetuning={"stage": "pt", "finetuning_type": "full"},
        generating={"do_sample": False, "max_new_tokens": 24},
        measures={"checkpoints": f"{job_id}/pt"},
    )
    assert summary(host.done(job))["text"].startswith(" fox jumps over the ")


def test_what_an_earlier_step_of_the_job_made_answers(host):
    steps = [{"name": "sft"}, {"name": "say", "do": "generate", "model": {"model_name_or_path": "@sft"}}]
    document = a_job(steps=steps, messages=SAID, generating={"max_new_tokens": 4}, measures={"names": []})
    assert summary(host.done(document))["tokens"] >= 1


def test_a_run_that_is_stopped_writes_no_further(host):
    def stop(message, run):
        if message["message"] == "piece":
            run.wish = "cancel"

    attempt = host.attempt(a_generating_job(generating={"max_new_tokens": 200}), when=stop)
    assert isinstance(attempt.error, Stopped)
    assert len(attempt.of("piece")) <= 2, "what was written at that token, and what was held back until the end"
    assert attempt.of("step") == []


def test_a_prompt_that_leaves_no_room_is_refused_with_its_length(host):
    messages = [{"role": "user", "content": "what says the cat " * 60}]
    with pytest.raises(JobFailure, match="tokens: they leave no room") as raised:
        host.done(a_generating_job(messages=messages))
    assert raised.value.reason == Reason.BAD_DATA


def test_a_reward_models_checkpoint_writes_nothing(host):
    document = a_job(data={"dataset": "better"}, finetuning={"stage": "rm", "lora_rank": 2}, measures={"names": []})
    job_id = host.remember(document, host.done(document))
    with pytest.raises(JobFailure, match="reward model"):
        host.done(a_generating_job(measures={"checkpoints": f"{job_id}/rm"}))


def test_the_tokenizers_own_template_takes_a_conversation_without_its_answer(tokenizer):
    tokenizer.chat_template = (
        "{% for message in messages %}<{{ message.role }}>{{ message.content }}</s>{% endfor %}"
        "{% if add_generation_prompt %}<assistant>{% endif %}"
    )
    conversation = generating._conversation(generating_messages("be brief", "what says the cat"))
    encoded = generating.encode_prompt(conversation, generating.TEMPLATES["tokenizer"], tokenizer, generating.UNCUT, 1)
    assert tokenizer.decode(encoded.input_ids) == "<system>be brief</s><user>what says the cat</s><assistant>"


def generating_messages(system, said):
    return (generating.Message(role="system", content=system), generating.Message(role="user", content=said))
