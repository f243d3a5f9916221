import json

import pytest

from tests.worker.stages.attempts import DATASETS, a_job, a_pretraining_job
from worker.failures import JobFailure


def inspection(host, attempt):
    (artifact,) = attempt.of("artifact")
    assert artifact["name"] == "inspection.json"
    return json.loads((host.artifacts / artifact["path"]).read_text(encoding="utf-8"))


def inspecting(document, **data):
    kept = {name: value for name, value in document["data"].items() if value is not None}
    finetuning = {"stage": document["finetuning"].get("stage", "sft")}
    return {"do": "inspect", "model": document["model"], "data": kept | data, "finetuning": finetuning}


def test_rows_are_looked_at_and_no_model_is_loaded(host):
    for file in (host.models / "tiny").glob("*.safetensors"):
        file.unlink()
    attempt = host.done(inspecting(a_job(), val_size=2))
    assert attempt.events("model_loaded") == attempt.of("checkpoint") == []
    (measured,) = attempt.of("measurement")
    assert (measured["global_step"], measured["split"]) == (None, "train")
    seen = inspection(host, attempt)
    assert (seen["rows"], seen["held_out_rows"]) == (10, 2)
    assert attempt.of("step")[0]["summary"] == {"rows": 10, "held_out_rows": 2}
    rows = {row["measure"]: row for row in measured["metrics"]}
    assert {name: row["value"] for name, row in rows.items()} == {name: it["value"] for name, it in seen["measures"].items()}
    assert rows["trained_share"]["value"] == pytest.approx(seen["coverage"]["trained_tokens"] / seen["coverage"]["tokens"])
    assert rows["row_length:max"]["value"] >= rows["row_length:p50"]["value"] > 1
    assert 0 < rows["sample_coverage"]["value"] <= 1
    assert seen["lower_bounds"] == [], "these are the same few words again and again"
    assert rows["pair_coverage"]["value"] <= rows["sample_coverage"]["value"]
    assert rows["conditional_entropy"]["value"] < rows["entropy_from_counts"]["value"]


def test_pieces_say_what_is_trained(host):
    (first, *_) = inspection(host, host.done(inspecting(a_job(), val_size=0)))["examples"]
    row = DATASETS["pets"][0]
    trained = [piece["text"] for piece in first["pieces"] if piece["trained"]]
    masked = [piece["text"] for piece in first["pieces"] if not piece["trained"]]
    assert any(row["output"] in text for text in trained)
    assert any(row["instruction"] in text for text in masked)
    assert not any(row["instruction"] in text for text in trained)
    assert len(first["token_ids"]) == len(first["token_texts"]) == len(first["mask"]) == first["tokens"]
    shown = [text for text, is_trained in zip(first["token_texts"], first["mask"], strict=True) if is_trained]
    assert "".join(shown).replace(" ", "") == "".join(trained).replace(" ", "")


def test_copies_and_leaks_are_named_by_file_and_row(host):
    rows = [{"instruction": f"say the number {n} and nothing else at all", "output": f"it is {n}"} for n in range(6)]
    host.add_dataset("copied", [*rows, rows[2]])
    host.add_dataset("leaked", [rows[4], {"instruction": "what is the colour of the sky today", "output": "blue"}])
    document = inspecting(a_job(), dataset="copied", val_size=0) | {"measures": {"dataset": "leaked"}}
    seen = inspection(host, host.done(document))
    assert seen["measures"]["duplicate_share"]["value"] == pytest.approx(1 / 7)
    assert seen["measures"]["leaked_share"]["value"] == 0.5
    duplicate, leak = seen["duplicates"][0], seen["leaks"][0]
    assert (duplicate["file"], duplicate["row"], duplicate["like_row"]) == ("copied.json", 7, 3)
    assert (leak["file"], leak["row"], leak["like_file"], leak["like_row"]) == ("leaked.json", 1, "copied.json", 5)


def test_long_rows_are_counted_before_they_are_cut(host):
    attempt = host.done(inspecting(a_job(), cutoff_len=16))
    seen = inspection(host, attempt)
    assert seen["measures"]["overlong_share"]["value"] > 0
    assert seen["measures"]["row_length:max"]["value"] > 16
    assert seen["coverage"]["truncated"] == round(seen["measures"]["overlong_share"]["value"] * seen["rows"])


def test_texts_are_looked_at_whole(host):
    seen = inspection(host, host.done(inspecting(a_pretraining_job(), val_size=2)))
    assert seen["measures"]["trained_share"]["value"] == 1
    assert seen["rows"] == 10


def test_an_entropy_of_too_little_text_is_called_a_lower_bound(host):
    host.add_dataset("rare", ["qwertz", "yxcvbn", "asdfgh"])
    seen = inspection(host, host.done(inspecting(a_pretraining_job(), dataset="rare", val_size=0)))
    assert seen["measures"]["pair_coverage"]["value"] < 0.9
    assert {"joint_entropy", "conditional_entropy"} <= set(seen["lower_bounds"])


def test_a_bad_row_is_named(host):
    host.add_dataset("bad", [{"instruction": "a", "output": "b"}, {"instruction": "a"}])
    with pytest.raises(JobFailure, match=r"bad\.json, row 2"):
        host.done(inspecting(a_job(), dataset="bad", val_size=0))


def preferences(dataset, **finetuning):
    document = inspecting(a_job(), dataset=dataset, val_size=2)
    return document | {"finetuning": {"stage": "dpo", **finetuning}}


def test_pairs_are_looked_at_with_both_answers(host):
    rows = [{"instruction": f"say {n}", "chosen": f"it is {n}", "rejected": "no" + " never" * n} for n in range(8)]
    host.add_dataset("chosen", rows)
    attempt = host.done(preferences("chosen"))
    seen = inspection(host, attempt)
    assert (seen["rows"], seen["held_out_rows"]) == (6, 2)
    pieces = seen["examples"][0]["pieces"]
    assert [piece["trained"] for piece in pieces] == [False, True, False, True]
    row = rows[seen["examples"][0]["row"] - 1]
    assert row["chosen"] in pieces[1]["text"]
    assert row["rejected"] in pieces[3]["text"]
    assert pieces[0]["text"] == pieces[2]["text"]
    measures = {name: it["value"] for name, it in seen["measures"].items()}
    sizes = [example["tokens"] for example in seen["examples"]]
    assert measures["row_length:max"] < max(sizes), "the longer of two texts, and not both"
    assert 0 < measures["trained_share"] < 1
    assert measures["duplicate_share"] == 0


def test_pairs_of_the_same_chosen_answer_are_no_duplicates_unless_the_other_is_the_same_too(host):
    pair = {"instruction": "what is the colour of the sky", "chosen": "it is blue today", "rejected": "green"}
    host.add_dataset("alike", [pair, pair | {"rejected": "red"}, pair, pair])
    document = preferences("alike") | {"data": preferences("alike")["data"] | {"val_size": 0}}
    assert inspection(host, host.done(document))["measures"]["duplicate_share"]["value"] == 0.5


def test_judged_answers_are_looked_at_as_conversations(host):
    seen = inspection(host, host.done(preferences("judged", dpo_loss="kto")))
    assert (seen["rows"], seen["held_out_rows"]) == (10, 2)
    assert [piece["trained"] for piece in seen["examples"][0]["pieces"]] == [False, True]
    assert seen["measures"]["trained_share"]["value"] > 0
