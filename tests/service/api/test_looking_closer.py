"""What tokens cost, and how far two jobs are apart, over HTTP."""

import math

import pytest

from service.store import metrics
from tests.service.api import made

TEXTS = [{"tokens": ["a", " b", " c"], "scored": [1, 2]}]
SUMS = {"n_tokens": [2, 4, 2], "n_bytes": [4, 8, 4], "nll": [6.0, 8.0, 5.0], "entropy": [5.0, 7.0, 4.0], "text": "t"}


@pytest.fixture
def measured(door, database):
    """A job, measured as told: {global_step: documents}."""

    def make(documents, split="validation", **groups):
        job_id = door.submit(**groups)
        held = made.claim(database)
        for number, kept in documents.items():
            with made.behind_the_fence(database, held) as session:
                metrics.record_measurement(session, held, "sft", number, split, kept)
        made.succeed(database, held)
        return job_id

    return make


def test_tokens_have_what_they_cost_the_base_first(door, measured):
    job_id = measured(
        {
            40: {"shown": {"bits": [[1.5, None]]}},
            metrics.BASE: {"shown": {"texts": TEXTS, "bits": [[6.0, 2.0]]}},
        }
    )
    assert door.get(f"/jobs/{job_id}/surprisal").json() == {
        "job_id": job_id,
        "data": [
            {
                "step": "sft",
                "split": "validation",
                "texts": TEXTS,
                "checkpoints": [{"checkpoint": "base", "bits": [[6.0, 2.0]]}, {"checkpoint": 40, "bits": [[1.5, None]]}],
            }
        ],
    }
    assert door.get(f"/jobs/{job_id}/surprisal?step=sft").json()["data"]
    refused = door.get(f"/jobs/{job_id}/surprisal?step=dpo")
    assert refused.json()["errors"] == [{"pointer": "/query/step", "detail": "The job has no step 'dpo'; it has sft."}]


def test_what_was_measured_before_texts_were_kept_shows_none(door, measured):
    job_id = measured({metrics.BASE: {"nll": [1.0]}, 40: {"nll": [1.0]}})
    assert door.get(f"/jobs/{job_id}/surprisal").json()["data"] == []


def test_a_job_is_paired_with_another_on_the_same_text(door, measured):
    one = measured({metrics.BASE: SUMS, 20: SUMS, 40: {**SUMS, "nll": [4.0, 6.0, 3.0]}})
    other = measured({metrics.BASE: SUMS, 30: {**SUMS, "nll": [5.0, 8.0, 5.0]}})
    answer = door.get(f"/jobs/{one}/versus/{other}").json()
    assert answer["one"] == {"job_id": one, "step": "sft", "checkpoint": 40, "split": "validation"}
    assert answer["other"] == {"job_id": other, "step": "sft", "checkpoint": 30, "split": "validation"}
    assert (answer["paired"], answer["why_not"]) == (True, None)
    found = {row["measure"]: row for row in answer["data"]}
    assert found.keys() == {"cross_entropy", "bits_per_byte", "entropy"}, "those of which both have sums"
    row = found["cross_entropy"]
    # −5 bits on 8 tokens; r = (−1 + 5/8·2, −2 + 5/8·4, −2 + 5/8·2)/8 = (1/4, 1/2, −3/4)/8
    assert (row["value"], row["n_documents"], row["n_tokens"]) == (-0.625, 3, 8)
    assert row["standard_error"] == pytest.approx(math.sqrt(1.5 * 0.875) / 8)
    low, high = row["interval"]
    assert high - low == pytest.approx(2 * 4.302653 * row["standard_error"])
    assert found["entropy"]["value"] == 0
    named = door.get(f"/jobs/{one}/versus/{other}?checkpoint=20&step=sft").json()
    assert named["one"]["checkpoint"] == 20


def test_another_text_is_not_paired_and_says_why(door, measured):
    one, other, old = measured({40: SUMS}), measured({40: {**SUMS, "text": "u"}}), measured({40: {"nll": [1.0], "n_tokens": [1]}})
    answer = door.get(f"/jobs/{one}/versus/{other}").json()
    assert (answer["paired"], answer["data"]) == (False, [])
    assert "different texts" in answer["why_not"]
    assert "earlier version" in door.get(f"/jobs/{one}/versus/{old}").json()["why_not"]


def test_a_model_that_diverged_has_no_difference(door, measured):
    one, other = measured({40: {**SUMS, "nll": [None, 8.0, 5.0]}}), measured({40: SUMS})
    rows = {row["measure"]: row for row in door.get(f"/jobs/{one}/versus/{other}").json()["data"]}
    assert (rows["cross_entropy"]["value"], rows["cross_entropy"]["interval"]) == (None, None)
    assert rows["entropy"]["value"] == 0


def test_what_is_not_measured_or_not_there_cannot_be_compared(door, measured):
    one, base_alone = measured({40: SUMS}), measured({metrics.BASE: SUMS})
    anchor = measured({40: SUMS}, split="anchor")
    for other in (base_alone, anchor):
        answer = door.get(f"/jobs/{one}/versus/{other}")
        assert (answer.status_code, answer.json()["detail"]) == (404, f"No such checkpoint of {other} has been measured.")
    assert door.get(f"/jobs/{one}/versus/{one}?checkpoint=41").status_code == 404
    assert door.get(f"/jobs/{one}/versus/job-none").status_code == 404
    refused = door.get(f"/jobs/{one}/versus/{one}?other_step=dpo")
    assert [error["pointer"] for error in refused.json()["errors"]] == ["/query/other_step"]
