"""Several ranks, as processes: they train what one process would, they end together, and nothing is left of them."""

import signal
import time

import psutil
import pytest
import torch

from tests.running import is_alive
from tests.worker.ranked import Ranked, at_checkpoint
from tests.worker.stages.attempts import Host, a_job, a_ppo_job, a_preference_job, a_pretraining_job, add_judge
from tests.worker.stages.test_resume import require_equal_series, same, saved_in
from worker import launching, ranks
from worker.stages.callbacks import Shares

# Ten rows in batches of two: three updates of two ranks an epoch, and for the third one of them has no rows.
EIGHT = {"max_steps": 8}
# Seven rows one by one, four in an update of two ranks: the second of an epoch has three. Eleven in batches of two: it has three,
# too, in batches of two and one.
SHORT = {"max_steps": 8, "gradient_accumulation_steps": 2, "per_device_train_batch_size": 1}
UNEVEN = {"max_steps": 8, "gradient_accumulation_steps": 2}
OF_PPO = {"max_steps": 4, "gradient_accumulation_steps": 1}
NORMALISED = {"ppo_score_norm": True, "ppo_whiten_rewards": True}
SEVEN, ELEVEN = {"val_size": 5}, {"val_size": 1}
FULL = {"finetuning_type": "full"}
STAGES = {
    "sft": a_job(training=EIGHT),
    "sft accumulated": a_job(training=EIGHT | {"gradient_accumulation_steps": 2}),
    "sft short": a_job(training=SHORT, data=SEVEN),
    "sft uneven": a_job(training=UNEVEN, data=ELEVEN),
    "sft with padding": a_job(training=EIGHT, data={"ignore_pad_token_for_loss": False} | ELEVEN),
    "sft grouped": a_job(training=EIGHT | {"group_by_length": True}),
    "sft packed": a_job(training=EIGHT, data={"sft_packing": True}),
    "sft packed short": a_job(training=SHORT, data={"sft_packing": True, "ignore_pad_token_for_loss": False}),
    "sft streamed": a_job(training=EIGHT, data={"streaming": True, "buffer_size": 4}),
    "pt short": a_pretraining_job(training=SHORT),
    "pt uneven": a_pretraining_job(training=UNEVEN, data={"val_size": 3}),
    "pt tied": a_pretraining_job(training=EIGHT, model={"model_name_or_path": "tied"}),
    "pt full": a_pretraining_job(training=EIGHT),
    "pt frozen": a_pretraining_job(training=EIGHT, finetuning={"finetuning_type": "freeze", "num_layer_trainable": 1}),
    "rm": a_preference_job(training=EIGHT, finetuning={"stage": "rm"}),
    "rm full": a_preference_job(training=EIGHT, finetuning={"stage": "rm", **FULL}),
    "rm short": a_preference_job(training=SHORT, data=SEVEN, finetuning={"stage": "rm"}),
    "rm uneven": a_preference_job(training=UNEVEN, data=ELEVEN, finetuning={"stage": "rm"}),
    "dpo": a_preference_job(training=EIGHT),
    "dpo short": a_preference_job(training=SHORT, data=SEVEN, finetuning={"dpo_ftx": 0.5}),
    "dpo uneven": a_preference_job(training=UNEVEN, data=ELEVEN, finetuning={"dpo_loss": "kto_pair"}),
    "dpo judged uneven": a_preference_job(
        training=UNEVEN, finetuning={"dpo_loss": "kto", "dpo_ftx": 0.5}, data={"dataset": "judged"} | ELEVEN
    ),
    "ppo": a_ppo_job(training=OF_PPO, finetuning=NORMALISED),
    "ppo full": a_ppo_job(training=OF_PPO, finetuning=FULL),
    "ppo streamed": a_ppo_job(training=OF_PPO, data={"streaming": True, "buffer_size": 4}),
    "dpo judged": a_preference_job(training=EIGHT, finetuning={"dpo_loss": "kto"}, data={"dataset": "judged"}),
}
IN_EVERY_RUN = ("dpo short", "ppo")
SHARED = {
    "pt": a_pretraining_job(training=EIGHT | {"fsdp": True}, resources={"gpus": 2}),
    "pt with sgd": a_pretraining_job(training=EIGHT | {"fsdp": True, "optim": "sgd"}, resources={"gpus": 2}),
    "sft": a_job(training=EIGHT | {"fsdp": True, "gradient_accumulation_steps": 2}, resources={"gpus": 2}) | {"finetuning": FULL},
}
DROPOUT, WINDOWS = {"lora_rank": 2, "lora_dropout": 0.3}, {"logging_steps": 3}
KILLED = {
    "sft": a_job(training=EIGHT | WINDOWS, finetuning=DROPOUT),
    "full": a_job(training=EIGHT | WINDOWS) | {"finetuning": FULL},
    "shared": a_job(training=EIGHT | WINDOWS | {"fsdp": True}, resources={"gpus": 2}) | {"finetuning": FULL},
    "rm": a_preference_job(training=UNEVEN | WINDOWS, data=ELEVEN, finetuning={"stage": "rm", **DROPOUT}),
    "dpo": a_preference_job(training=UNEVEN | WINDOWS, data=ELEVEN, finetuning=DROPOUT),
    "ppo": a_ppo_job(training=OF_PPO | WINDOWS, finetuning=NORMALISED | DROPOUT),
}
LOST = {"message": "outcome", "outcome": "lost"}


@pytest.fixture
def host(tmp_path, make_llama, tokenizer_folder):
    made = Host(tmp_path, make_llama, tokenizer_folder)
    add_judge(made, "judge", make_llama(seed=1))
    made.add_model("tied", make_llama(tie_word_embeddings=True))
    return made


def accumulated(job, times):
    """The same rows in each update, on one device."""
    training = job["training"]
    return job | {"training": training | {"gradient_accumulation_steps": times * training.get("gradient_accumulation_steps", 1)}}


def require_equal_curves(one, two):
    assert list(one.points()) == list(two.points()) == list(range(1, len(one.points()) + 1))
    for update, values in one.points().items():
        for name in values.keys() - {"tokens_per_second", "tokens"}:
            assert two.points()[update][name] == pytest.approx(values[name], abs=1e-4), (update, name)


def require_equal_measures(one, two):
    assert one.rows().keys() == two.rows().keys()
    for place, row in one.rows().items():
        told = two.rows()[place]["value"]
        assert (told is None) == (row["value"] is None), place
        assert told is None or told == pytest.approx(row["value"], rel=1e-3, abs=1e-3), place


@pytest.mark.parametrize(
    "stage", [stage if stage in IN_EVERY_RUN else pytest.param(stage, marks=pytest.mark.long) for stage in STAGES]
)
def test_two_ranks_train_what_one_process_does_with_the_same_rows_in_each_update(host, tmp_path, stage):
    two = Ranked(host, STAGES[stage]).ended_well()
    weights_of_two = host.weights(two)
    (host.artifacts / "job-1").rename(tmp_path / "of two")
    one = host.done(accumulated(STAGES[stage], 2))
    require_equal_curves(one, two)
    require_equal_measures(one, two)
    for name, weight in host.weights(one).items():
        torch.testing.assert_close(weights_of_two[name], weight, rtol=0, atol=1e-4, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.long
@pytest.mark.parametrize("stage", SHARED)
def test_ranks_that_share_a_model_train_what_one_process_does(host, tmp_path, stage):
    two = Ranked(host, SHARED[stage]).ended_well()
    (host.artifacts / "job-1").rename(tmp_path / "of two")
    job = SHARED[stage] | {"training": SHARED[stage]["training"] | {"fsdp": False}, "resources": {"gpus": 0}}
    one = host.done(accumulated(job, 2))
    require_equal_curves(one, two)
    require_equal_measures(one, two)


@pytest.mark.long
@pytest.mark.parametrize("stage", ["sft", "dpo short", "rm uneven", "ppo"])
def test_three_ranks_do_too(host, stage):
    three = Ranked(host, STAGES[stage], n_ranks=3).ended_well()
    require_equal_curves(host.done(accumulated(STAGES[stage], 3)), three)


@pytest.mark.long
@pytest.mark.parametrize("stage", KILLED)
def test_ranks_that_were_killed_go_on_as_if_nothing_had_happened(host, tmp_path, stage):
    """Dropout is drawn by each: the state of every generator is in the checkpoint."""
    job = KILLED[stage]
    whole = Ranked(host, job).ended_well()
    kept = saved_in(host.folder(whole))
    assert {"rng_state_0.pth", "rng_state_1.pth"} <= kept.keys()
    assert not same(kept["rng_state_0.pth"]["cpu"], kept["rng_state_1.pth"]["cpu"])
    (host.artifacts / "job-1").rename(tmp_path / "whole")
    first = Ranked(host, job).hear(until=at_checkpoint(job["training"]["max_steps"] // 4 * 2))
    first.process.kill()
    first.hear()
    second = Ranked(host, job, earlier=[first.attempt]).ended_well()
    assert second.events("resumed")[0]["data"]["global_step"] == first.attempt.checkpoints()[-1]
    require_equal_series(whole, first.attempt, second)
    again = saved_in(host.folder(second))
    assert [name for name in kept if not same(kept[name], again[name])] == []


def test_a_rank_that_is_killed_ends_the_attempt_by_its_number_and_signal_and_leaves_none(host):
    running = Ranked(host, a_job(training={"max_steps": 100_000})).hear(until=at_checkpoint(2))
    them = running.ranks
    them[1].kill()
    running.hear()
    assert running.outcome == LOST | {"sentence": "Rank 1 of 2 was ended by SIGKILL (often because the host ran out of memory)."}
    assert not any(is_alive(rank) for rank in them)


def in_rank_one(monkeypatch, happens):
    """What happens to it alone, once training begins."""
    as_it_is = Shares.on_train_begin

    def on_train_begin(self, *arguments, **more):
        as_it_is(self, *arguments, **more)
        if ranks.rank() == 1:
            happens()

    monkeypatch.setattr(Shares, "on_train_begin", on_train_begin)


def raise_out_of_memory():
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def test_what_one_rank_has_no_memory_for_is_the_attempts_reason_with_its_number(host, monkeypatch):
    in_rank_one(monkeypatch, raise_out_of_memory)
    running = Ranked(host, a_job()).hear()
    assert (running.outcome["outcome"], running.outcome["reason"]) == ("failed", "out_of_memory")
    assert running.outcome["sentence"].startswith("Rank 1 of 2: The memory was not enough.")
    assert running.outcome["details"] == {"rank": 1}


@pytest.mark.long
def test_a_rank_that_hangs_is_not_waited_for_without_end(host, monkeypatch):
    monkeypatch.setattr(ranks, "HUNG_SECONDS", 2.0)
    monkeypatch.setattr(ranks, "VERDICT_SECONDS", 0.1)
    in_rank_one(monkeypatch, lambda: time.sleep(10_000))
    running = Ranked(host, a_job()).hear()
    assert running.outcome["outcome"] == "lost"
    assert running.outcome["sentence"].startswith("Rank 0 of 2: another rank has gone, or hangs:")


def test_ranks_die_with_their_launcher(host, monkeypatch):
    """Whatever they are doing: one that is in a kernel hears no interrupt."""
    in_rank_one(monkeypatch, lambda: signal.signal(signal.SIGINT, signal.SIG_IGN))
    running = Ranked(host, a_job(training={"max_steps": 100_000})).hear(until=at_checkpoint(2))
    them = running.ranks
    assert len(them) == 2
    running.process.kill()
    running.process.join()
    psutil.wait_procs(them, timeout=120)
    assert not any(is_alive(rank) for rank in them)


@pytest.mark.long
def test_no_port_is_opened_that_another_host_could_reach(host):
    running = Ranked(host, a_job(training={"max_steps": 100_000})).hear(until=at_checkpoint(2))
    processes = [psutil.Process(running.process.pid), *running.ranks]
    listening = {
        connection.laddr.ip
        for process in processes
        for connection in process.net_connections()
        if connection.status == psutil.CONN_LISTEN
    }
    running.process.kill()
    running.process.join()
    assert listening <= {"127.0.0.1", "::1"}


@pytest.mark.long
@pytest.mark.parametrize(("wish", "saves"), [(b"stop", True), (b"cancel", False)])
def test_a_wish_is_obeyed_by_all_at_one_update(host, wish, saves):
    running = Ranked(host, a_job(training={"max_steps": 100_000, "save_steps": 100_000}))
    running.hear(until=lambda message: message["message"] == "points" and message["global_step"] > 3)
    running.pipe.send_bytes(wish)
    running.hear()
    assert running.outcome == {"message": "outcome", "outcome": "stopped"}
    assert len(running.attempt.checkpoints()) == saves
    assert "Traceback" not in running.log


@pytest.mark.long
def test_a_guard_ends_the_step_of_all(host):
    measures = {"guards": [{"when": "cross_entropy < 100", "then": "stop"}]}
    running = Ranked(host, a_job(training={"max_steps": 100_000}, measures=measures))
    assert running.ended_well().checkpoints() == [2]


@pytest.mark.long
def test_steps_of_all_kinds_follow_one_another(host):
    """A model that is shared out, an adapter on it, and what looks and measures by one rank."""
    full = {"finetuning": FULL, "training": {"fsdp": True, "bf16": True}}
    job = a_job(resources={"gpus": 2})
    del job["finetuning"]
    job["steps"] = [
        {"name": "look", "do": "inspect"},
        {"name": "whole", **full},
        {"name": "adapter", "model": {"model_name_or_path": "@whole"}, "finetuning": {"lora_rank": 2}},
        {"name": "again", "model": {"model_name_or_path": "@whole"}, **full},
        {"name": "measured", "do": "measure", "model": {"model_name_or_path": "@again"}},
    ]
    attempt = Ranked(host, job).ended_well()
    assert [message["step"] for message in attempt.of("step")] == ["look", "whole", "adapter", "again", "measured"]
    assert all(attempt.losses(step)[-1] < attempt.losses("whole")[0] for step in ("whole", "adapter", "again"))


@pytest.mark.long
def test_what_is_wrong_with_the_job_is_said_as_by_one_process(host):
    running = Ranked(host, a_job(model={"model_name_or_path": "nowhere"})).hear()
    assert (running.outcome["outcome"], running.outcome["reason"]) == ("failed", "missing_model")
    assert running.outcome["sentence"].startswith("There is no model")


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
@pytest.mark.parametrize("shared", [False, True], ids=["each has the model", "they share it"])
def test_two_gpus_train_what_one_does(host, tmp_path, shared):
    training = EIGHT | ({"fsdp": True} if shared else {})
    two = Ranked(host, a_pretraining_job(training=training, resources={"gpus": 2}), gpus="0,1").ended_well()
    (host.artifacts / "job-1").rename(tmp_path / "of two")
    job = accumulated(a_pretraining_job(training=EIGHT, resources={"gpus": 1}), 2)
    one = Ranked(host, job, n_ranks=1, gpus="0").ended_well()
    for update, values in one.points().items():
        assert two.points()[update]["loss"] == pytest.approx(values["loss"], abs=1e-2)


# -- which of the ranks' ends is the attempt's ---------------------------------------------------------------------------


def failed(reason, sentence="It was so."):
    return {"message": "outcome", "outcome": "failed", "reason": reason, "sentence": sentence, "details": {"row": 3}}


WELL = {"message": "outcome", "outcome": "succeeded"}
STOPPED = {"message": "outcome", "outcome": "stopped"}


@pytest.mark.parametrize(
    ("last_words", "first_failed", "outcome"),
    [
        ({0: WELL, 1: WELL}, None, WELL),
        ({0: STOPPED}, (0, 1), STOPPED),
        ({0: STOPPED, 1: failed("killed")}, (1, 1), STOPPED),
        ({}, (1, -9), LOST | {"sentence": "Rank 1 of 2 was ended by SIGKILL (often because the host ran out of memory)."}),
        ({}, (0, -11), LOST | {"sentence": "Rank 0 of 2 was ended by SIGSEGV."}),
        ({0: failed("killed")}, (1, -6), LOST | {"sentence": "Rank 1 of 2 was ended by SIGABRT."}),
        ({0: failed("killed", "It waited.")}, (0, 1), LOST | {"sentence": "Rank 0 of 2: It waited."}),
        ({1: failed("bad_row")}, (1, 1), failed("bad_row") | {"details": {"rank": 1, "row": 3}}),
        (
            {1: failed("out_of_memory")},
            (1, 1),
            failed("out_of_memory", "Rank 1 of 2: It was so.") | {"details": {"rank": 1, "row": 3}},
        ),
        ({}, None, LOST | {"sentence": "Rank 0 of 2 ended with code 0 and did not say why."}),
    ],
)
def test_the_end_of_the_attempt_is_that_of_the_rank_that_failed_first(last_words, first_failed, outcome):
    assert launching.verdict(2, last_words, first_failed) == outcome
