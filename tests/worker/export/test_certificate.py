import json
import math

import pytest
import torch
from safetensors.torch import load_file, save_file

from service.specs.read import read_job
from service.specs.reasons import Reason
from worker.data.tokenize import Example
from worker.export import certificate, weights
from worker.export.certificate import Limits, certify, compare
from worker.export.text import Text, drawn, of_examples
from worker.failures import JobFailure
from worker.information.vocabulary.head import Head
from worker.models import widened
from worker.models.assembly import frozen
from worker.models.start import Start
from worker.probes.token import Base

CPU, FP32 = torch.device("cpu"), torch.float32


@pytest.fixture
def text(tokenizer):
    return drawn(tokenizer, most_tokens=12)


@pytest.fixture
def certified(tmp_path, tokenizer, text):
    """The certificate of a model that is saved in a folder, after something was done to its files."""

    def certified(reference, written, limits=Limits(), corrupt=lambda folder: None, **more):
        written.save_pretrained(tmp_path / "written")
        corrupt(tmp_path / "written")
        return certify(lambda: reference, tmp_path / "written", tokenizer, text, CPU, FP32, limits, **more)

    return certified


def test_a_model_that_comes_back_whole_is_itself(certified, make_llama, text):
    found = certified(make_llama(), make_llama(), Limits(1e-4, 1e-4))
    assert found.kl_from_reference.mean.value == pytest.approx(0, abs=1e-6)
    assert found.kl_to_reference.max == pytest.approx(0, abs=1e-4)
    assert found.top_1_agreement.value == 1
    assert found.cross_entropy_change.value == pytest.approx(0, abs=1e-6)
    assert (found.n_documents, found.n_tokens) == (16, 16 * 11)
    assert found.to_document()["passed"]


def test_the_numbers_are_those_of_the_definitions(certified, make_llama, text):
    """Both divergences, the agreement and the cross-entropies, by softmax and sums over the whole vocabulary."""
    p, q = make_llama(0), make_llama(1)
    found = certified(p, q)
    ids = torch.tensor([document.input_ids for document in text.documents])
    with torch.no_grad():
        lp, lq = (torch.log_softmax(model(ids).logits[:, :-1].double(), -1) / math.log(2) for model in (p, q))
    forth, back = (lp.exp2() * (lp - lq)).sum(-1), (lq.exp2() * (lq - lp)).sum(-1)
    assert found.kl_from_reference.mean.value == pytest.approx(float(forth.mean()), rel=1e-4)
    assert found.kl_to_reference.mean.value == pytest.approx(float(back.mean()), rel=1e-4)
    assert found.kl_from_reference.max == pytest.approx(float(forth.max()), rel=1e-4)
    assert found.kl_to_reference.max == pytest.approx(float(back.max()), rel=1e-4)
    assert found.top_1_agreement.value == pytest.approx(float((lp.argmax(-1) == lq.argmax(-1)).double().mean()))
    nll_p, nll_q = (-each.gather(-1, ids[:, 1:, None]).squeeze(-1) for each in (lp, lq))
    assert found.cross_entropy_reference.value == pytest.approx(float(nll_p.mean()), rel=1e-4)
    assert found.cross_entropy_change.value == pytest.approx(float((nll_q - nll_p).mean()), abs=1e-4)


def test_intervals_are_paired_and_cluster_on_documents(certified, make_llama, text):
    p, q = make_llama(0), make_llama(1)
    found = certified(p, q)
    ids = torch.tensor([document.input_ids for document in text.documents])
    with torch.no_grad():
        nll = [torch.nn.functional.cross_entropy(m(ids).logits[:, :-1].mT, ids[:, 1:], reduction="none") for m in (p, q)]
    by_document = (nll[1] - nll[0]).mean(1) / math.log(2)
    expected = float(by_document.std(correction=1)) / math.sqrt(16)
    assert found.cross_entropy_change.standard_error == pytest.approx(expected, rel=1e-3)
    low, high = found.cross_entropy_change.interval
    assert low < found.cross_entropy_change.value < high


def test_windows_of_one_document_are_one_cluster(make_llama, tokenizer):
    examples = [
        Example([5, 6, 7], [-100, 6, 7], document=7),
        Example([7, 8], [-100, 8], document=7),
        Example([9, 8], [9, 8], document=9),
    ]
    text = of_examples(examples, "held-out rows", "validation")
    base = Base.of(make_llama(0), text.documents, len(tokenizer))
    found = compare(base, Base.of(make_llama(1), text.documents, len(tokenizer)), text, Limits())
    assert (found.n_documents, found.n_tokens) == (2, 4)


@pytest.fixture
def make_lively(make_llama):
    """Of weights so large that each of them is in the answers, as in a model that has learned something."""
    return lambda: make_llama(initializer_range=0.3)


def flip(folder, name="model.layers.0.mlp.down_proj.weight"):
    tensors = load_file(folder / "model.safetensors")
    tensors[name] = -tensors[name]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def test_a_shard_that_holds_other_numbers_is_caught(certified, make_lively):
    with pytest.raises(JobFailure, match=r"not what was trained: the mean D.trained.* bits a token, and 0.01 are") as failure:
        certified(make_lively(), make_lively(), Limits(0.01, 1.0), corrupt=flip)
    assert failure.value.reason == Reason.CERTIFICATE_FAILED
    assert failure.value.where["certificate"]["kl_from_reference"]["mean"]["value"] > 0.01
    assert not failure.value.where["certificate"]["passed"]


def test_a_number_that_is_none_passes_no_limit(certified, make_llama):
    def poison(folder):
        tensors = load_file(folder / "model.safetensors")
        tensors["model.norm.weight"][3] = float("nan")
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})

    with pytest.raises(JobFailure) as failure:
        certified(make_llama(), make_llama(), Limits(100.0, 100.0), corrupt=poison)
    assert failure.value.reason == Reason.CERTIFICATE_FAILED
    assert json.loads(json.dumps(failure.value.where["certificate"], allow_nan=False))["kl_from_reference"]["max"] is None


@pytest.mark.parametrize("what", ["torn", "gone", "lacking"])
def test_files_that_do_not_load_again_are_caught(certified, make_llama, what):
    def corrupt(folder):
        file = folder / "model.safetensors"
        if what == "torn":
            file.write_bytes(file.read_bytes()[:-100])
        elif what == "gone":
            file.unlink()
        else:
            tensors = load_file(file)
            del tensors["model.norm.weight"]
            save_file(tensors, file, metadata={"format": "pt"})

    with pytest.raises(JobFailure, match="What was written does not load again") as failure:
        certified(make_llama(), make_llama(), corrupt=corrupt)
    assert failure.value.reason == Reason.CERTIFICATE_FAILED


def test_another_vocabulary_is_caught(certified, make_llama):
    with pytest.raises(JobFailure, match="vocabulary") as failure:
        certified(make_llama(), make_llama(vocab_size=200))
    assert failure.value.reason == Reason.CERTIFICATE_FAILED


@pytest.mark.parametrize("as_bins", [False, True])
def test_half_precision_is_certified_in_its_own_room_with_the_same_numbers(
    tmp_path, monkeypatch, make_llama, tokenizer, text, as_bins
):
    """What computes in fp32 need not lie in memory in fp32."""
    for name, seed in (("trained", 0), ("written", 1)):
        weights.write(make_llama(seed, initializer_range=0.1).to(torch.bfloat16), tmp_path / name, 1, as_bins)
        tokenizer.save_pretrained(tmp_path / name)
    (step,) = read_job({"do": "export", "model": {"model_name_or_path": "trained"}}).resolved.steps
    held = []

    def certified(sparing):
        reference = lambda: frozen(Start(tmp_path / "trained"), step, tokenizer, CPU, sparing)  # noqa: E731
        found = certify(reference, tmp_path / "written", tokenizer, text, CPU, FP32, Limits())
        return found.to_document()

    of = Base.of
    monkeypatch.setattr(
        Base, "of", lambda model, *how: held.append({p.dtype for p in model.parameters() if p.dim() > 1}) or of(model, *how)
    )
    monkeypatch.setattr(widened, "_SMALL", 100)
    sparing = certified(True)
    assert held == [{torch.bfloat16}, {torch.bfloat16}], "what was trained, and what was written"
    monkeypatch.setattr(certificate, "half_precision_of", lambda folder: None)
    whole = certified(False)
    assert held[2:] == [{torch.float32}, {torch.float32}]
    assert sparing["kl_from_reference"]["mean"]["value"] > 0.01
    for name in ("kl_from_reference", "kl_to_reference"):
        assert sparing[name]["mean"]["value"] == pytest.approx(whole[name]["mean"]["value"], abs=1e-6)
        assert sparing[name]["max"] == pytest.approx(whole[name]["max"], abs=1e-5)
    for name in ("top_1_agreement", "cross_entropy_reference", "cross_entropy_export", "cross_entropy_change"):
        assert sparing[name]["value"] == pytest.approx(whole[name]["value"], abs=1e-6)


def test_the_likeliest_token_is_found_across_the_parts_of_the_vocabulary(monkeypatch):
    torch.manual_seed(0)
    hidden_ND, head = torch.randn(50, 8), Head(torch.randn(300, 8), vocabulary=290)
    expected = (hidden_ND @ head.weight_VD.T)[:, :290].argmax(1).numpy()
    monkeypatch.setattr(certificate, "_COLUMNS", 7)
    monkeypatch.setattr(certificate, "_TILE", 70)
    assert (certificate._likeliest(hidden_ND, head) == expected).all()


def test_the_text_that_stands_in_is_the_same_each_time_and_has_no_special_token(tokenizer):
    one, other = drawn(tokenizer), drawn(tokenizer)
    assert isinstance(one, Text)
    assert one == other
    drawn_ids = {token for document in one.documents for token in document.input_ids}
    assert not drawn_ids & set(tokenizer.all_special_ids)
    assert len(drawn_ids) > 250, "nearly every row of the vocabulary is used"
