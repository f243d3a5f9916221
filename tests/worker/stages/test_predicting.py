import json

import pytest
import torch

from service.specs.generating import GeneratingArguments
from service.specs.reasons import Reason
from tests.worker.stages.attempts import DATASETS, a_job
from tests.worker.stages.killed import killed_at
from worker import checkpoints
from worker.failures import JobFailure
from worker.run import Stopped
from worker.stages import predicting
from worker.stages.predicting import Asked, batches
from worker.writing.batch import Manner

KEYS = ["prompt", "label", "predict", "log_probability", "entropy", "tokens", "finish_reason"]


def a_predicting_job(**groups):
    """Of all rows of `pets`, short, unless the groups say otherwise."""
    data = {"template": "default", "dataset": "pets", "cutoff_len": 64} | groups.pop("data", {})
    generating = {"max_new_tokens": 6} | groups.pop("generating", {})
    training = {"per_device_eval_batch_size": 3} | groups.pop("training", {})
    model = {"model_name_or_path": "tiny"}
    return {"do": "predict", "model": model, "data": data, "generating": generating, "training": training} | groups


def predictions(host, attempt, step="predict"):
    (artifact,) = [one for one in attempt.of("artifact") if one["name"] == f"{step}/generated_predictions.jsonl"]
    return [json.loads(line) for line in (host.artifacts / artifact["path"]).read_text(encoding="utf-8").splitlines()]


def test_every_row_is_answered_in_its_own_order_and_scored(host):
    attempt = host.done(a_predicting_job())
    rows = predictions(host, attempt)
    assert [row["label"] for row in rows] == [row["output"] for row in DATASETS["pets"]]
    assert all(asked["instruction"] in row["prompt"] for asked, row in zip(DATASETS["pets"], rows, strict=True))
    assert all(list(row) == KEYS for row in rows)
    assert all(1 <= row["tokens"] <= 6 and row["log_probability"] < 0 < row["entropy"] for row in rows)
    (measured,) = attempt.of("measurement")
    assert (measured["step"], measured["global_step"], measured["split"]) == ("predict", 1, "dataset")
    told = {row["measure"]: row for row in measured["metrics"]}
    assert set(told) == {"predict_rouge-1", "predict_rouge-2", "predict_rouge-l", "predict_bleu-4"}
    assert {row["n_documents"] for row in told.values()} == {12}
    assert {row["unit"] for row in told.values()} == {"%"}
    assert attempt.of("step")[0]["summary"] == {"rows": 12, "tokens": sum(row["tokens"] for row in rows)}
    assert attempt.checkpoints() == [], "nothing was interrupted, and it took no time"


def test_a_model_that_learned_its_rows_predicts_them(host):
    """And with val_size the rows are those that training held out."""
    steps = [
        {"name": "sft"},
        {"name": "after", "do": "predict", "model": {"model_name_or_path": "@sft"}, "generating": {"do_sample": False}},
        {"name": "early", "do": "predict", "measures": {"checkpoints": "@sft/30"}, "generating": {"do_sample": False}},
        {"name": "before", "do": "predict", "generating": {"do_sample": False}},
    ]
    training = {"max_steps": 60, "save_steps": 30, "learning_rate": 1e-2, "per_device_train_batch_size": 4}
    document = a_job(steps=steps, training=training, generating={"max_new_tokens": 8}, measures={"names": []})
    document["finetuning"] = {"finetuning_type": "full"}
    attempt = host.done(document)
    rouge = {step: attempt.rows(step)[1, "predict_rouge-l"]["value"] for step in ("before", "early", "after")}
    assert rouge["before"] < 20 < 40 < rouge["after"]
    costs = {step: [row["log_probability"] for row in predictions(host, attempt, step)] for step in rouge}
    assert sum(costs["after"]) != sum(costs["early"]) != sum(costs["before"]), "each is asked as it was"
    (measured,) = attempt.of("measurement", "after")
    assert measured["split"] == "validation"
    held_out = {row["label"] for row in predictions(host, attempt, "after")}
    assert measured["metrics"][0]["n_documents"] == 2 == len(predictions(host, attempt, "after"))
    assert held_out <= {row["output"] for row in DATASETS["pets"]}


@pytest.mark.parametrize("size", [1, 12])
def test_neither_the_batch_nor_its_size_changes_what_is_drawn(host, size):
    plain = predictions(host, host.done(a_predicting_job()))
    other = predictions(host, host.done(a_predicting_job(training={"per_device_eval_batch_size": size})))
    assert [row["predict"] for row in other] == [row["predict"] for row in plain]
    assert [row["log_probability"] for row in other] == pytest.approx([row["log_probability"] for row in plain], abs=1e-4)


def test_max_length_counts_the_prompt_and_a_row_without_room_has_an_empty_answer(host):
    ids = [
        row["tokens"]
        for row in predictions(host, host.done(a_predicting_job(generating={"max_new_tokens": 0, "max_length": 20})))
    ]
    assert min(ids) == 0, "the longest prompts have 20 tokens themselves"
    longer = predictions(host, host.done(a_predicting_job(generating={"max_new_tokens": 0, "max_length": 60})))
    assert min(row["tokens"] for row in longer) > 0


def test_eval_num_beams_wins_over_num_beams(host):
    given = {"do_sample": False}
    by_beams = {
        name: predictions(host, host.done(a_predicting_job(**groups)))
        for name, groups in {
            "greedy": {"generating": given},
            "num_beams": {"generating": given | {"num_beams": 4}},
            "eval_num_beams": {"generating": given, "data": {"eval_num_beams": 4}},
            "both": {"generating": given | {"num_beams": 4}, "data": {"eval_num_beams": 1}},
        }.items()
    }
    assert by_beams["num_beams"] == by_beams["eval_num_beams"] != by_beams["greedy"] == by_beams["both"]
    likely = {name: sum(row["log_probability"] for row in rows) for name, rows in by_beams.items()}
    assert likely["num_beams"] > likely["greedy"]


def test_length_penalty_reaches_the_beams(host):
    lengths = []
    for length_penalty in (-9.0, 9.0):
        generating = {"do_sample": False, "num_beams": 4, "length_penalty": length_penalty, "max_new_tokens": 12}
        host_rows = predictions(host, host.done(a_predicting_job(generating=generating)))
        lengths.append([row["predict"] for row in host_rows])
    assert lengths[0] != lengths[1]


def test_a_run_that_is_stopped_goes_on_behind_what_it_answered(host, monkeypatch):
    """And a row is the same as in a run that nothing stopped."""
    whole = predictions(host, host.done(a_predicting_job()))

    def stop(message, run):
        if message["message"] == "progress" and message["progress"].get("global_step") == 6:
            run.wish = "stop"

    first = host.attempt(a_predicting_job(), when=stop)
    assert isinstance(first.error, Stopped)
    (saved,) = first.checkpoints()
    assert 6 <= saved < 12
    asked = []
    answer = predicting.answer
    monkeypatch.setattr(predicting, "answer", lambda model, ids, *rest: asked.append(len(ids)) or answer(model, ids, *rest))
    second = host.attempt(a_predicting_job(), [first])
    assert second.error is None
    assert sum(asked) == 12 - saved
    assert predictions(host, second) == whole
    assert second.events("resumed")[0]["data"]["rows"] == saved
    assert second.rows()[1, "predict_bleu-4"]["n_documents"] == 12


def test_a_batch_that_a_stop_cuts_short_is_not_kept(host, monkeypatch):
    answer = predicting.answer

    def stopped_meanwhile(model, ids, rooms, seeds, manner, is_stopping):
        host_run.wish = "stop"
        return answer(model, ids, rooms, seeds, manner, is_stopping)

    host_run = None

    def remember(message, run):
        nonlocal host_run
        host_run = run
        if message["message"] == "progress" and message["progress"].get("global_step") == 3:
            monkeypatch.setattr(predicting, "answer", stopped_meanwhile)

    first = host.attempt(a_predicting_job(), when=remember)
    assert isinstance(first.error, Stopped)
    assert first.checkpoints() == [3]


def test_what_is_answered_is_saved_now_and_then(host, monkeypatch):
    monkeypatch.setattr(predicting, "SAVE_SECONDS", 0.0)
    monkeypatch.setattr(predicting, "MOST_OF_THE_TIME", float("inf"))
    attempt = host.done(a_predicting_job())
    assert attempt.checkpoints() == [3, 6, 9, 12]


@pytest.mark.parametrize("place", ["in the midst of a batch", "before a checkpoint is whole"])
def test_a_run_that_is_killed_loses_no_row_and_writes_none_twice(host, monkeypatch, place):
    whole = predictions(host, host.done(a_predicting_job()))
    monkeypatch.setattr(predicting, "SAVE_SECONDS", 0.0)
    monkeypatch.setattr(predicting, "MOST_OF_THE_TIME", float("inf"))
    owner, name = (predicting, "answer") if "batch" in place else (checkpoints, "seal")
    first = killed_at(host, a_predicting_job(), owner, name, 3)
    assert first.checkpoints() == [3, 6]
    asked, answer = [], predicting.answer
    monkeypatch.setattr(predicting, "answer", lambda model, ids, *rest: asked.append(len(ids)) or answer(model, ids, *rest))
    second = host.done(a_predicting_job(), [first])
    assert sum(asked) == 6
    assert predictions(host, second) == whole


def test_rows_that_changed_meanwhile_are_answered_again(host):
    def stop(message, run):
        if message["message"] == "progress" and message["progress"].get("global_step") == 6:
            run.wish = "stop"

    first = host.attempt(a_predicting_job(), when=stop)
    rows = [row | {"instruction": row["instruction"].replace("cat", "dog")} for row in DATASETS["pets"]]
    host.add_dataset("pets", rows)
    second = host.done(a_predicting_job(), [first])
    assert all(row["instruction"] in got["prompt"] for row, got in zip(rows, predictions(host, second), strict=True))


def test_long_prompts_are_cut_or_dropped_and_counted(host):
    cut = host.done(a_predicting_job(data={"cutoff_len": 12}))
    assert "truncated" in cut.events("data_loaded")[0]["text"]
    dropped = host.done(a_predicting_job(data={"cutoff_len": 19, "overlength": "drop"}))
    assert 0 < len(predictions(host, dropped)) < 12
    assert "dropped" in dropped.events("data_loaded")[0]["text"]
    with pytest.raises(JobFailure, match="No rows are left to answer") as raised:
        host.done(a_predicting_job(data={"cutoff_len": 4, "overlength": "drop"}))
    assert raised.value.reason == Reason.BAD_DATA


def test_a_bad_row_is_named(host):
    host.add_dataset("bad", [{"instruction": "a", "output": "b"}, {"instruction": "a"}])
    with pytest.raises(JobFailure, match=r"bad\.json, row 2"):
        host.done(a_predicting_job(data={"dataset": "bad"}))


def test_a_reward_models_checkpoint_is_not_asked(host):
    document = a_job(data={"dataset": "better"}, finetuning={"stage": "rm", "lora_rank": 2}, measures={"names": []})
    job_id = host.remember(document, host.done(document))
    with pytest.raises(JobFailure, match="reward model") as raised:
        host.done(a_predicting_job(measures={"checkpoints": f"{job_id}/rm"}))
    assert raised.value.reason == Reason.BAD_MODEL


def test_a_checkpoint_that_is_gone_is_named(host):
    with pytest.raises(JobFailure, match="not there any more"):
        host.done(a_predicting_job(measures={"checkpoints": f"job-{0:024x}/sft/2"}))


def test_too_little_memory_is_said_of_prediction(host, monkeypatch):
    def out_of_memory(*args, **kwargs):
        raise torch.OutOfMemoryError

    monkeypatch.setattr(predicting, "answer", out_of_memory)
    with pytest.raises(JobFailure, match="per_device_eval_batch_size") as raised:
        host.done(a_predicting_job())
    assert raised.value.reason == Reason.OUT_OF_MEMORY


def test_batches_are_of_like_lengths_and_go_one_by_one_where_the_positions_end(make_llama):
    model = make_llama(max_position_embeddings=32)
    asked = [Asked(row, [5] * length, "", "") for row, length in enumerate((3, 9, 3, 27, 26, 0, 40))]
    manner = Manner(GeneratingArguments(max_new_tokens=10), [1], 1)
    assert [[one.row for one in batch] for batch in batches(model, asked, manner, 2)] == [[3], [4], [1, 0], [2]]
