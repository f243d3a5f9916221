"""What looks like a credential, and what commands a terminal, taken out of what is said."""

import pytest

from service.specs.changes import read_changes
from service.specs.read import read_job
from service.specs.redaction import STARS, redacted, visible
from service.specs.refusals import SpecRefused
from tests.specs.job_documents import a_flat_job, a_job

HF = "hf_" + "aB3" * 11
KEY = "fb_abcdefgh_" + "ab2" * 10 + "ab"
WEBHOOK = "whsec_" + "MDEy" * 11


@pytest.mark.parametrize(
    ("said", "seen"),
    [
        (f"GET /jobs?token={HF}&limit=3", f"GET /jobs?token={STARS}&limit=3"),
        ("GET /jobs?api_key=abc", f"GET /jobs?api_key={STARS}"),
        (f"the header Authorization: Bearer {KEY} is wrong", f"the header Authorization: Bearer {STARS} is wrong"),
        (f"{KEY}.", f"fb_abcdefgh_{STARS}."),
        (f"{HF} and {WEBHOOK}", f"hf_{STARS} and whsec_{STARS}"),
        ("postgresql://finebits:pw@db/finebits", f"postgresql://{STARS}@db/finebits"),
        ("https://user:pw@hub.example/a/b", f"https://{STARS}@hub.example/a/b"),
        ("AKIAIOSFODNN7EXAMPLE", f"AKIA{STARS}"),
    ],
)
def test_a_credential_is_stars(said, seen):
    assert redacted(said) == seen


@pytest.mark.parametrize(
    "said",
    [
        "job-0123456789abcdef01234567",
        "The model 'hf_internal_testing/tiny-random-llama' is not there.",
        "GET /jobs?limit=3&label=team:a HTTP/1.1",
        "tokens/s 120, keys: 3; the token before; a bearer of news",
        "https://example.com/a@b?x=1",
        "mail@example.com",
    ],
)
def test_what_is_none_is_left(said):
    assert redacted(said) == said


def test_control_characters_are_written_out_and_texts_are_left():
    assert visible("a\r\x1b[2Jb\x9b\u202ec\x00") == "a\\r\\x1b[2Jb\\x9b\\u202ec\\x00"
    assert visible("Zeile\tä\n日本 🙂") == "Zeile\tä\n日本 🙂"


@pytest.mark.parametrize("token", [HF, KEY, WEBHOOK, f"text around {HF} it"])
@pytest.mark.parametrize(
    ("document", "pointer"),
    [
        (lambda token: a_job(name=token), "/name"),
        (lambda token: a_job(labels={"token": token}), "/labels/token"),
        (lambda token: a_job(model={"model_name_or_path": token}), "/model/model_name_or_path"),
        (lambda token: a_job(model={"hf_hub_tokn": token}), "/model/hf_hub_tokn"),
        (lambda token: a_job(steps=[{"name": "sft", "data": {"dataset": [token]}}]), "/steps/0/data/dataset/0"),
        (lambda token: a_flat_job(export_hub_model_id=token), "/export_hub_model_id"),
    ],
)
def test_a_token_in_another_place_is_refused_and_not_said_again(document, pointer, token):
    with pytest.raises(SpecRefused) as refused:
        read_job(document(token))
    assert pointer in [refusal.pointer for refusal in refused.value.refusals]


def test_a_token_in_its_own_place_is_taken():
    assert read_job(a_job(model={"hf_hub_token": HF})).spec.model.hf_hub_token is not None


@pytest.mark.parametrize("changes", [{"name": HF}, {"labels": {"a": KEY}}])
def test_a_token_is_no_name_or_label_that_a_job_is_given_later(changes):
    with pytest.raises(SpecRefused, match="looks like a key or a token"):
        read_changes(changes)


@pytest.mark.parametrize("text", ["a", "a.", "a://", "?a", "&key", "bearer ", "hf_", "://a@"])
def test_a_long_text_is_read_in_a_time_that_grows_with_its_length(text):
    """Twice as much takes about twice as long; what tries every two places would take four times, and here for hours."""
    redacted(text * (1_000_000 // len(text)))
