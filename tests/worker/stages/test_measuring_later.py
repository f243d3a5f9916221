import pytest

from service.specs.measures import DEFAULT_NAMES, measure_of
from tests.worker.stages.attempts import a_job, a_preference_job, a_pretraining_job
from worker.failures import JobFailure
from worker.models import assembly
from worker.probes.token import DocumentSums
from worker.run import Stopped

FULL = {"finetuning_type": "full"}
TEXT = {"template": "default", "dataset": "pets", "val_size": 2, "cutoff_len": 64}


def a_measuring_job(*checkpoints, **groups):
    """Of the text that a_job holds out, unless the groups say otherwise."""
    measures = ({"checkpoints": list(checkpoints)} if checkpoints else {}) | groups.pop("measures", {})
    data = TEXT | groups.pop("data", {})
    return {"do": "measure", "model": {"model_name_or_path": "tiny"}, "data": data, "measures": measures} | groups


def values(rows, number):
    return {measure: row["value"] for (at, measure), row in rows.items() if at == number}


@pytest.mark.parametrize("finetuning", [{}, FULL], ids=["lora", "full"])
def test_a_checkpoint_of_an_earlier_job_is_worth_what_it_was_when_it_was_made(host, finetuning):
    document = a_job() | {"finetuning": finetuning or {"lora_rank": 2}}
    trained = host.done(document)
    job_id = host.remember(document, trained)
    later = host.done(a_measuring_job(f"{job_id}/sft/2", f"{job_id}/sft"))
    assert later.measured() == [None, 1, 2]
    assert later.checkpoints() == []
    then, now = trained.rows(), later.rows()
    for at, number in ((None, None), (2, 1), (4, 2)):
        was, told = values(then, at), values(now, number)
        assert told.keys() == was.keys()
        assert {name for name in told if told[name] is None} == {name for name in was if was[name] is None}
        numbers = [name for name in told if told[name] is not None]
        assert {"cross_entropy", "entropy", "bits_per_byte"} <= set(numbers)
        assert [told[name] for name in numbers] == pytest.approx([was[name] for name in numbers], rel=1e-5, abs=1e-9)
    assert now[2, "kl_from_base"]["value"] > 0
    assert now[1, "cross_entropy"]["versus_base"]["value"] == pytest.approx(then[2, "cross_entropy"]["versus_base"]["value"])
    ofs = [event["data"].get("of") for event in later.events("measured")]
    assert ofs == [None, *({"job_id": job_id, "step": "sft", "checkpoint": at} for at in (2, 4))]
    assert later.events("measured")[1]["text"].startswith(f"{job_id}/sft/2: cross-entropy ")


def test_any_text_is_measured_and_no_row_is_trained_on(host):
    document = a_job()
    job_id = host.remember(document, host.done(document))
    later = host.done(a_measuring_job(f"{job_id}/sft", data={"dataset": None, "val_size": 0}, measures={"dataset": "others"}))
    assert later.measured() == [None, 1]
    assert {message["split"] for message in later.of("measurement")} == {"dataset"}
    assert later.rows()[1, "cross_entropy"]["n_documents"] == 5
    assert later.points() == {}
    (done,) = later.of("step")
    assert done["summary"] == {"measured": 1}


def test_a_model_of_the_folder_is_measured_with_no_checkpoint_at_all(host):
    later = host.done(a_measuring_job(data={"dataset": None, "val_size": 0}, measures={"dataset": "others", "anchor": "pets"}))
    assert later.measured() == [None, None]
    assert {message["split"] for message in later.of("measurement")} == {"dataset", "anchor"}
    assert later.rows()[None, "cross_entropy"]["value"] > 0


def test_a_pipeline_measures_what_its_steps_made(host):
    measured = {"dataset": "others"}
    steps = [
        {"name": "sft"},
        {"name": "by_name", "do": "measure", "measures": measured | {"checkpoints": "@sft/2,@sft"}},
        {"name": "as_model", "do": "measure", "model": {"model_name_or_path": "@sft"}, "measures": measured},
        {"name": "alone", "do": "measure", "model": {"model_name_or_path": "@sft"}, "measures": measured | {"base": "step"}},
    ]
    attempt = host.done(a_job() | {"steps": steps})
    assert [attempt.measured(name) for name in ("by_name", "as_model", "alone")] == [[None, 1, 2], [None, 1], [None]]
    named, merged = attempt.rows("by_name"), attempt.rows("as_model")
    alone = attempt.rows("alone")[None, "cross_entropy"]["value"]
    assert named[None, "cross_entropy"]["value"] == merged[None, "cross_entropy"]["value"]
    # laid on or merged, the adapter is the same model
    last = named[2, "cross_entropy"]["value"]
    assert merged[1, "cross_entropy"]["value"] == pytest.approx(last, rel=1e-5)
    assert alone == pytest.approx(last, rel=1e-5)
    assert named[1, "cross_entropy"]["value"] != last
    of = [event["data"].get("of") for event in attempt.events("measured") if event["data"]["step"] == "as_model"]
    assert of == [None, {"job_id": "job-1", "step": "sft", "checkpoint": 4}]


def test_a_checkpoint_stands_on_what_its_own_job_had_made_before(host):
    steps = [
        {"name": "first"},
        {"name": "second", "model": {"model_name_or_path": "@first"}, "finetuning": {"stage": "sft"}},
    ]
    document = a_job() | {"steps": steps}
    trained = host.done(document)
    job_id = host.remember(document, trained)
    later = host.done(a_measuring_job(f"{job_id}/second"))
    was = trained.rows("second")[4, "cross_entropy"]["value"]
    assert later.rows()[1, "cross_entropy"]["value"] == pytest.approx(was, rel=1e-5)


def test_what_was_measured_is_not_measured_again(host, monkeypatch):
    document = a_job()
    job_id = host.remember(document, host.done(document))
    later = a_measuring_job(f"{job_id}/sft/2", f"{job_id}/sft/4")

    def stop(message, run):
        if message["message"] == "measurement" and message["global_step"] == 1:
            run.wish = "stop"

    first = host.attempt(later, when=stop)
    assert isinstance(first.error, Stopped)
    assert first.measured() == [None, 1]
    loaded = []
    frozen = assembly.frozen
    monkeypatch.setattr(
        "worker.stages.measuring_later.frozen",
        lambda start, *rest: loaded.append(start.continued and start.continued.name) or frozen(start, *rest),
    )
    second = host.done(later, [first])
    assert second.measured() == [None, 2]
    assert loaded == [None, f"{job_id}/sft/4"]
    whole = host.done(later)
    assert second.rows()[1, "cross_entropy"]["versus_best"] == whole.rows()[1, "cross_entropy"]["versus_best"]


def test_training_rows_are_read_only_where_a_measure_looks_at_them(host):
    document = a_job()
    job_id = host.remember(document, host.done(document))
    names = {"names": "cross_entropy,membership_auroc,sample_coverage,granger_causality"}
    later = host.done(a_measuring_job(f"{job_id}/sft", measures=names))
    told = {measure_of(name) for _, name in later.rows()}
    assert told == {"cross_entropy", "membership_auroc", "sample_coverage", "granger_causality"}


def test_the_chosen_answers_of_pairs_and_plain_texts_are_texts_too(host):
    for document, stage in ((a_preference_job(), "dpo"), (a_pretraining_job(), "pt")):
        trained = host.done(document)
        job_id = host.remember(document, trained)
        data = {name: value for name, value in document["data"].items() if value is not None}
        spec = a_measuring_job(f"{job_id}/{stage}/2", finetuning={"stage": stage}) | {"data": data}
        was = trained.rows()[2, "cross_entropy"]["value"]
        assert host.done(spec).rows()[1, "cross_entropy"]["value"] == pytest.approx(was, rel=1e-5)


@pytest.mark.parametrize("finetuning", [{}, FULL], ids=["lora", "full"])
def test_a_reward_model_is_measured_later_as_it_was_when_it_was_made(host, finetuning):
    document = a_preference_job(finetuning={"stage": "rm", **finetuning})
    trained = host.done(document)
    job_id = host.remember(document, trained)
    spec = a_measuring_job(f"{job_id}/rm/2", f"{job_id}/rm", data=document["data"], finetuning={"stage": "rm"})
    now, then = host.done(spec).rows(), trained.rows()
    for at, number in ((None, None), (2, 1), (4, 2)):
        was, told = values(then, at), values(now, number)
        assert told["preference_cross_entropy"] == pytest.approx(was["preference_cross_entropy"], rel=1e-5)
        assert told.keys() == was.keys()
    assert now[None, "preference_cross_entropy"]["value"] == 1
    assert now[2, "reward_margin"]["value"] != now[1, "reward_margin"]["value"]
    assert now[2, "chosen_reward"]["versus_base"]["value"] == pytest.approx(now[2, "chosen_reward"]["value"])


def test_a_checkpoint_that_scores_nothing_is_no_reward_model(host):
    document = a_job(training={"max_steps": 1})
    job_id = host.remember(document, host.done(document))
    with pytest.raises(JobFailure, match=f"{job_id}/sft has no value head") as failure:
        host.done(a_measuring_job(f"{job_id}/sft", data={"dataset": "better"}, finetuning={"stage": "rm"}))
    assert failure.value.reason == "bad_model"


def test_good_answers_among_judged_ones_are_a_text(host):
    document = a_preference_job(data={"dataset": "judged"}, finetuning={"dpo_loss": "kto"}, training={"max_steps": 1})
    trained = host.done(document)
    job_id = host.remember(document, trained)
    judged = {"finetuning": {"stage": "dpo", "dpo_loss": "kto"}, "data": document["data"]}
    later = host.done(a_measuring_job(f"{job_id}/dpo", **judged))
    was = trained.rows()[1, "cross_entropy"]["value"]
    assert later.rows()[1, "cross_entropy"]["value"] == pytest.approx(was, rel=1e-5)


def test_a_checkpoint_that_is_gone_fails_the_job_with_its_name(host):
    document = a_job()
    trained = host.done(document)
    job_id = host.remember(document, trained)
    with pytest.raises(JobFailure, match=f"'{job_id}/sft/3' is not there") as failure:
        host.done(a_measuring_job(f"{job_id}/sft/3"))
    assert failure.value.reason == "missing_model"
    (host.folder(trained) / "adapter_model.safetensors").unlink()
    with pytest.raises(JobFailure, match=f"'{job_id}/sft/4' is no longer whole"):
        host.done(a_measuring_job(f"{job_id}/sft/4"))
    host.earlier_jobs.clear()
    with pytest.raises(JobFailure, match="not there any more"):
        host.done(a_measuring_job(f"{job_id}/sft/4"))


def test_a_checkpoint_that_reads_other_tokens_is_refused(host, make_llama):
    host.add_model("other", make_llama())
    tokenizer = host.models / "other" / "tokenizer.json"
    tokenizer.write_text(tokenizer.read_text().replace('"!"', '"~~"').replace('"~"', '"!"').replace('"~~"', '"~"'))
    document = a_job(model={"model_name_or_path": "other"})
    job_id = host.remember(document, host.done(document))
    with pytest.raises(JobFailure, match="has another tokenizer"):
        host.done(a_measuring_job(f"{job_id}/sft"))


def test_a_model_of_other_tokens_than_the_jobs_base_is_measured_alone_and_in_bits_per_byte_against_it(host, make_llama):
    host.add_model("other", make_llama())
    file = host.models / "other" / "tokenizer.json"
    file.write_text(file.read_text().replace('"!"', '"~~"').replace('"~"', '"!"').replace('"~~"', '"~"'))
    looks = {"names": f"{','.join(DEFAULT_NAMES)},total_variation", "dataset": "others", "anchor": "pets"}
    steps = [{"name": "sft"}, {"name": "later", "do": "measure", "model": {"model_name_or_path": "other"}, "measures": looks}]
    attempt = host.done(a_job(training={"max_steps": 1}) | {"steps": steps})
    rows = {(row["split"], at, name): row for (row, at, name) in told_by_split(attempt, "later")}
    alone = host.done(a_measuring_job(data={"dataset": None, "val_size": 0}, measures={"dataset": "others"})).rows()
    assert {it for it in rows if it[1] is None} == {("dataset", None, "bits_per_byte")}, "in its own tokens, of the task's text"
    assert rows["dataset", None, "bits_per_byte"]["value"] == pytest.approx(alone[None, "bits_per_byte"]["value"])
    in_bytes = rows["dataset", 1, "bits_per_byte"]
    assert in_bytes["versus_base"]["value"] == pytest.approx(in_bytes["value"] - alone[None, "bits_per_byte"]["value"])
    for split in ("dataset", "anchor"):
        assert rows[split, 1, "cross_entropy"]["value"] > 0
        assert rows[split, 1, "cross_entropy"]["versus_base"] is None
        for name in ("kl_from_base", "kl_to_base", "total_variation"):
            row = rows[split, 1, name]
            assert (row["value"], row["versus_base"]) == (None, None)
            assert "has another tokenizer" in row["interval_reason"]
    (told,) = [it for it in attempt.of("measurement") if it["step"] == "later" and it["split"] == "dataset" and it["global_step"]]
    reasons = {test["alert"]: test["reason"] for test in told["alerts"]}
    assert "has another tokenizer" in reasons["entropy_collapse"]


def told_by_split(attempt, step):
    """(row with its split, checkpoint, measure), as it was told last."""
    for message in attempt.of("measurement"):
        if message["step"] == step:
            for row in message["metrics"]:
                yield row | {"split": message["split"]}, row["global_step"], row["measure"]


def test_sums_are_kept_of_a_measured_checkpoint(host):
    later = host.done(a_measuring_job(data={"dataset": None, "val_size": 0}, measures={"dataset": "others"}))
    (base,) = later.of("measurement")
    assert len(DocumentSums.from_json(base["documents"]).nll) == 5
