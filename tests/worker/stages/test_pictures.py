"""The files as they are among the artifacts: an SVG is text, and each of its curves has a name."""

import hashlib
import math
from xml.etree import ElementTree

import pytest

from tests.worker.stages.attempts import a_job, a_preference_job
from worker.probes.spread import BINS
from worker.probes.token import DocumentSums
from worker.stages.pictures import Seen, draw, save

SVG = "{http://www.w3.org/2000/svg}"
NAMES = ("cross_entropy", "entropy", "gain_and_drift", "spectra")


def pictures(host, attempt):
    """Name -> the file's bytes, held against what was told of it."""
    found = {}
    for artifact in attempt.of("artifact"):
        content = (host.artifacts / artifact["path"]).read_bytes()
        assert (artifact["size"], artifact["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
        found[artifact["name"]] = content
    return found


def curves(svg):
    """id -> its element, and all texts."""
    root = ElementTree.fromstring(svg)
    return {it.get("id"): it for it in root.iter(f"{SVG}g") if it.get("id")}, {
        "".join(it.itertext()) for it in root.iter(f"{SVG}text")
    }


def points(element):
    return len(list(element.iter(f"{SVG}use")))


def test_each_measured_checkpoint_is_one_point_of_each_picture(host):
    job = a_job(measures={"plots": True, "names": "cross_entropy"}, training={"max_steps": 6, "save_steps": 2})
    attempt = host.done(job)
    found = pictures(host, attempt)
    assert set(found) == {f"sft/{name}.{kind}" for name in NAMES for kind in ("png", "svg")}
    assert all(content.startswith(b"\x89PNG") for name, content in found.items() if name.endswith("png"))

    drawn, texts = curves(found["sft/cross_entropy.svg"])
    assert points(drawn["cross-entropy"]) == 4, "the base and three checkpoints"
    assert {
        "Cross-entropy of sft",
        "update",
        "bits/token",
        "95 % interval",
        "training loss",
        "cross-entropy (validation)",
    } <= texts
    assert {"cross-entropy-interval", "training-loss"} <= set(drawn)

    drawn, texts = curves(found["sft/entropy.svg"])
    assert points(drawn["entropy"]) == 4
    assert {name for name in drawn if name.startswith("histogram-")} == {f"histogram-{it}" for it in ("base", 2, 4, 6)}

    drawn, texts = curves(found["sft/gain_and_drift.svg"])
    assert sum(points(drawn[name]) for name in ("front", "beaten") if name in drawn) == 3
    assert {"2", "4", "6", "drift: KL from the base, bits/token (validation)"} <= texts

    drawn, _ = curves(found["sft/spectra.svg"])
    assert {name for name in drawn if name.startswith("adapter-")} == {"adapter-2", "adapter-4", "adapter-6"}
    assert {name for name in drawn if name.startswith("covariance-")} == {f"covariance-{it}" for it in ("base", 2, 4, 6)}


def test_what_is_kept_of_a_pass_counts_every_token_and_shares_sum_to_one(host):
    attempt = host.done(a_job(measures={"plots": True}))
    of_task = [message for message in attempt.of("measurement") if message["split"] == "validation"]
    assert len(of_task) == 3
    for message in of_task:
        kept = message["documents"]["spread"]
        assert len(kept["entropy_counts"]) == BINS
        assert sum(kept["entropy_counts"]) == sum(message["documents"]["n_tokens"])
        assert kept["most_entropy"] == pytest.approx(math.log2(300))
        middle = sum(n * (place + 0.5) / BINS for place, n in enumerate(kept["entropy_counts"])) * kept["most_entropy"]
        assert middle == pytest.approx(
            sum(message["documents"]["entropy"]), abs=sum(kept["entropy_counts"]) * kept["most_entropy"] / BINS / 2
        )
        assert sum(kept["variances"]) == pytest.approx(1)
        assert (kept["adapter"] is None) == (message["global_step"] is None)
    assert sum(of_task[-1]["documents"]["spread"]["adapter"]) == pytest.approx(1)


def test_pictures_of_a_step_that_was_resumed_show_what_earlier_attempts_measured(host):
    job = a_job(measures={"plots": True})
    whole = pictures(host, host.done(job))

    def stop(message, run):
        if message["message"] == "measurement" and message["global_step"] == 2:
            run.wish = "stop"

    first = host.attempt(job, when=stop)
    assert first.of("artifact") == []
    second = pictures(host, host.done(job, earlier=[first]))
    assert [name for name in whole if second.get(name) != whole[name]] == [], "the same points are the same bytes"


def test_drift_is_shown_on_the_anchor_and_a_loss_that_is_no_cross_entropy_not_at_all(host):
    found = pictures(host, host.done(a_preference_job(measures={"plots": True, "anchor": "others"})))
    assert "drift: KL from the base, bits/token (anchor)" in curves(found["dpo/gain_and_drift.svg"])[1]
    assert "training-loss" not in curves(found["dpo/cross_entropy.svg"])[0]


def test_no_picture_is_drawn_and_nothing_kept_unasked(host):
    attempt = host.done(a_job(training={"max_steps": 1}))
    assert attempt.of("artifact") == []
    assert all("spread" not in message["documents"] for message in attempt.of("measurement"))


def test_a_checkpoint_that_diverged_leaves_a_gap(tmp_path):
    base, good = (
        DocumentSums([4, 4], [4, 4], [nll, nll + 1], [nll, nll], [kl, kl], [kl, kl]) for nll, kl in ((8.0, 0.0), (4.0, 1.0))
    )
    bad = DocumentSums([4, 4], [4, 4], [math.nan] * 2, [math.nan] * 2, [math.nan] * 2, [math.nan] * 2)
    for name, figure in draw("sft", Seen(base, {1: good, 2: bad}, "validation", {1: good, 2: bad}, "validation", {}), {}):
        save(figure, tmp_path / f"{name}.svg")
    drawn, _ = curves((tmp_path / "cross_entropy.svg").read_text())
    assert points(drawn["cross-entropy"]) == 2
    drawn, _ = curves((tmp_path / "gain_and_drift.svg").read_text())
    assert sum(points(drawn[name]) for name in ("front", "beaten") if name in drawn) == 1


def test_what_a_step_measures_is_drawn_by_its_place_in_the_list(host):
    document = a_job()
    job_id = host.remember(document, host.done(document))
    data = {name: value for name, value in document["data"].items() if value is not None}
    measures = {"checkpoints": f"{job_id}/sft/2,{job_id}/sft/4", "plots": True}
    later = host.done({"do": "measure", "model": document["model"], "data": data, "measures": measures})
    found = pictures(host, later)
    assert set(found) == {f"measure/{name}.{kind}" for name in NAMES for kind in ("png", "svg")}
    lines, texts = curves(found["measure/cross_entropy.svg"])
    assert points(lines["cross-entropy"]) == 3, "the base and two of the list"
    assert "place in the list" in texts
    assert "update" not in texts
