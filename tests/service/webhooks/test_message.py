from datetime import UTC, datetime

import openai
import orjson
import pytest
import standardwebhooks

from service.webhooks.message import body_of, headers_of

OLD, NEW = (f"whsec_{letter * 43}=" for letter in "AB")

BODY = body_of("evt-1", "fine_tuning.job.succeeded", 1.9e9, {"job": "job-0123", "state": "succeeded", "sentence": "Ünd"})


def headers(*secrets: str) -> dict[str, str]:
    return headers_of("evt-1", datetime.now(UTC).timestamp(), BODY, secrets)


def test_the_standard_s_own_library_verifies_the_signature_and_refuses_another_body() -> None:
    webhook = standardwebhooks.Webhook(NEW)
    assert webhook.verify(BODY, headers(NEW)) == orjson.loads(BODY)
    with pytest.raises(standardwebhooks.WebhookVerificationError, match="No matching signature"):
        webhook.verify(BODY + b" ", headers(NEW))
    with pytest.raises(standardwebhooks.WebhookVerificationError, match="No matching signature"):
        webhook.verify(BODY, headers(OLD))


def test_while_two_secrets_are_valid_a_receiver_may_know_either() -> None:
    sent = headers(NEW, OLD)
    for secret in (OLD, NEW):
        standardwebhooks.Webhook(secret).verify(BODY, sent)


def test_openai_s_client_unwraps_the_end_of_a_job() -> None:
    client = openai.OpenAI(api_key="none", webhook_secret=NEW)
    event = client.webhooks.unwrap(BODY, headers(NEW, OLD))
    assert isinstance(event, openai.types.webhooks.FineTuningJobSucceededWebhookEvent)
    assert (event.id, event.object, event.created_at, event.data.id) == ("evt-1", "event", 1_900_000_000, "ftjob-0123")
    with pytest.raises(openai.InvalidWebhookSignatureError):
        client.webhooks.unwrap(BODY, headers(OLD))
