"""A reward API that is right, slow, down, wrong, or not to be asked."""

import json
import ssl
import threading
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer

import httpx2
import pytest
import torch
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from service.specs.reasons import Reason
from tests.fake_rewards import by_letter, fake_rewards, scores
from worker.failures import JobFailure
from worker.rewards import api
from worker.rewards.api import Patience, RewardApi
from worker.run import Stopped

TOKENS = torch.ones(2, 3).long()
TEXTS = ["Who is there? ", "What? "], ["me", "eee"]


@pytest.fixture
def rewards():
    with fake_rewards() as server:
        yield server


@pytest.fixture
def waits(monkeypatch):
    """How long was waited, in pieces; nobody waits for it here."""
    waited = []

    def sleep(seconds):
        waited.append(seconds)
        clock[0] += seconds

    clock = [0.0]
    monkeypatch.setattr(api, "sleep", sleep)
    monkeypatch.setattr(api, "monotonic", lambda: clock[0])
    return waited


def an_api(rewards, **patience):
    return RewardApi(rewards.url, (rewards.host,), patience=Patience(**{"tries": 3, "first_wait": 0.01} | patience))


def failure(rewards, **patience):
    with pytest.raises(JobFailure) as caught:
        an_api(rewards, **patience).score(TOKENS, TOKENS, *TEXTS)
    assert caught.value.where == {"host": rewards.host}
    assert caught.value.sentence.startswith(f"The reward API at {rewards.host} ")
    return caught.value


def status(code, **headers):
    return lambda asked: (code, {name.replace("_", "-"): value for name, value in headers.items()}, b"")


def test_prompt_and_response_are_sent_as_one_text_each_and_the_scores_come_back(rewards):
    scored = an_api(rewards).score(TOKENS, TOKENS, *TEXTS)
    assert rewards.asked == [{"model": "model", "messages": ["Who is there? me", "What? eee"]}]
    assert scored.tolist() == pytest.approx([3 / 16, 3 / 9])
    assert scored.dtype == torch.float32


@pytest.mark.parametrize("trouble", [status(500), status(503), status(429, Retry_After="0")])
def test_a_server_in_trouble_is_asked_again(rewards, trouble):
    rewards.answers = [trouble, trouble, by_letter]
    assert an_api(rewards).score(TOKENS, TOKENS, *TEXTS).shape == (2,)
    assert len(rewards.asked) == 3


def test_waiting_grows_and_varies_and_keeps_to_what_the_server_asks_within_bounds(rewards, waits):
    rewards.answers = [status(503)]
    failure(rewards, tries=4, first_wait=0.4)
    assert all(low <= wait <= high for wait, (low, high) in zip(waits, [(0.2, 0.4), (0.4, 0.5)], strict=False))
    waits.clear()
    rewards.answers = [status(429, Retry_After="7"), by_letter]
    an_api(rewards).score(TOKENS, TOKENS, *TEXTS)
    assert sum(waits) == pytest.approx(7)
    waits.clear()
    rewards.answers = [status(429, Retry_After="86400"), by_letter]
    an_api(rewards).score(TOKENS, TOKENS, *TEXTS)
    assert sum(waits) == pytest.approx(60)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("3", 3),
        ("-3", 0),
        ("soon", None),
        (None, None),
    ],
)
def test_how_long_to_wait_is_said_in_seconds(header, seconds):
    assert api._retry_after(header) == seconds


def test_how_long_to_wait_is_said_as_a_time_that_may_have_passed():
    assert api._retry_after(format_datetime(datetime.now(UTC) + timedelta(hours=2))) == pytest.approx(7200, abs=60)
    assert api._retry_after(format_datetime(datetime.now(UTC) - timedelta(hours=2))) == 0


def test_a_server_that_never_answers_is_slow(rewards):
    rewards.answers = [lambda asked: None]
    failed = failure(rewards, answer=0.05, tries=2)
    assert failed.reason == Reason.REWARD_API_SLOW
    assert "did not answer within 0.05 seconds, 2 times in a row" in failed.sentence
    assert len(rewards.asked) == 2


def test_a_server_that_trickles_is_slow_too(rewards, monkeypatch):
    """Each part comes within the time, and all of them together do not."""
    clock = iter([0.0] + [100.0] * 50)
    monkeypatch.setattr(api, "monotonic", lambda: next(clock))
    assert failure(rewards, tries=1).reason == Reason.REWARD_API_SLOW


def test_a_server_that_is_not_there_is_down(rewards):
    with fake_rewards() as other:
        gone = other
    with pytest.raises(JobFailure) as caught:
        an_api(gone).score(TOKENS, TOKENS, *TEXTS)
    assert (caught.value.reason, "cannot be reached" in caught.value.sentence) == (Reason.REWARD_API_DOWN, True)


@pytest.mark.parametrize("trouble", [status(500), status(429)])
def test_one_that_stays_in_trouble_is_down(rewards, trouble):
    rewards.answers = [trouble]
    failed = failure(rewards)
    assert (failed.reason, len(rewards.asked)) == (Reason.REWARD_API_DOWN, 3)
    assert "3 times in a row" in failed.sentence


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda asked: (200, {}, b"<html>"), "something that is not JSON"),
        (lambda asked: (200, {}, b"[1, 2]"), 'without a list of "scores"'),
        (lambda asked: (200, {}, b'{"scores": 3}'), 'without a list of "scores"'),
        (lambda asked: scores([1.0]), "answered 1 scores for 2 responses"),
        (lambda asked: scores([1.0, 2.0, 3.0]), "answered 3 scores for 2 responses"),
        (lambda asked: scores([1.0, "high"]), 'answered "high" where a score must be a finite number'),
        (lambda asked: scores([1.0, None]), "answered null where"),
        (lambda asked: scores([1.0, True]), "answered true where"),
        (lambda asked: (200, {}, b'{"scores": [1, NaN]}'), "answered NaN where"),
        (lambda asked: (200, {}, b'{"scores": [1, -Infinity]}'), "answered -Infinity where"),
        (lambda asked: (200, {}, b'{"scores": [1, 1e39]}'), "answered 1e+39 where"),
        (lambda asked: scores([1, 10**400]), "where a score must be a finite number"),
    ],
)
def test_what_is_not_one_finite_score_for_each_response_is_wrong_and_not_asked_for_again(rewards, answer, says):
    rewards.answers = [answer]
    failed = failure(rewards)
    assert (failed.reason, len(rewards.asked)) == (Reason.REWARD_API_WRONG, 1)
    assert says in failed.sentence


def test_an_answer_without_end_is_cut_off(rewards, monkeypatch):
    monkeypatch.setattr(api, "MOST_BYTES", 100)
    rewards.answers = [lambda asked: (200, {}, b" " * 101)]
    failed = failure(rewards)
    assert (failed.reason, "sends more than 100 bytes" in failed.sentence) == (Reason.REWARD_API_WRONG, True)


@pytest.mark.parametrize("code", [400, 401, 404, 422])
def test_a_refusal_is_told_and_not_repeated(rewards, code):
    rewards.answers = [status(code)]
    failed = failure(rewards)
    assert (failed.reason, len(rewards.asked)) == (Reason.REWARD_API_REFUSES, 1)
    assert f"with the status {code}" in failed.sentence


def test_a_redirect_is_not_followed(rewards):
    with fake_rewards() as elsewhere:
        rewards.answers = [status(307, Location=elsewhere.url)]
        failed = failure(rewards)
        assert elsewhere.asked == []
    assert failed.reason == Reason.REWARD_API_REFUSES
    assert f"sends on to {elsewhere.host} (status 307), which is not followed" in failed.sentence


def test_a_job_that_is_to_stop_stops_while_it_waits(rewards):
    def stop():
        if rewards.asked:
            raise Stopped("cancel")

    rewards.answers = [status(503)]
    with pytest.raises(Stopped):
        RewardApi(rewards.url, (rewards.host,), stop).score(TOKENS, TOKENS, *TEXTS)
    assert len(rewards.asked) == 1


def test_a_host_that_this_workers_operator_does_not_list_is_never_asked(rewards):
    with pytest.raises(JobFailure) as caught:
        RewardApi(rewards.url, ("127.0.0.1:1",))
    assert caught.value.reason == Reason.REWARD_API_NOT_ALLOWED
    assert json.dumps(rewards.asked) == "[]"


def test_proxies_and_passwords_of_the_environment_are_not_used(rewards, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    assert an_api(rewards).score(TOKENS, TOKENS, *TEXTS).shape == (2,)


@pytest.mark.parametrize(("key", "sent"), [(None, None), ("rk-123456", "Bearer rk-123456")])
def test_reward_api_key_is_what_the_api_is_asked_with(rewards, key, sent):
    RewardApi(rewards.url, (rewards.host,), key=key).score(TOKENS, TOKENS, *TEXTS)
    assert rewards.authorized == [sent]


# -- where a name leads --------------------------------------------------------------------------------------------------


def by_name(url, resolve, name="rewards.example"):
    url = url.replace("127.0.0.1", name)
    return RewardApi(url, (url.split("/")[2],), patience=Patience(answer=5, tries=1), resolve=resolve)


HERE = "127.0.0.1", "127.0.1.1", "::1", "::ffff:127.0.0.1", "0.0.0.0", "fe80::1%lo", "169.254.169.254", "192.0.0.192"


@pytest.mark.parametrize("address", [*HERE, "100.100.100.200"])
def test_a_name_leads_to_no_address_that_is_another_on_each_host(rewards, address):
    with pytest.raises(JobFailure, match=address.partition("%")[0]) as caught:
        by_name(rewards.url, lambda host, port: [address]).score(TOKENS, TOKENS, *TEXTS)
    assert caught.value.reason == Reason.REWARD_API_NOT_ALLOWED
    assert rewards.asked == []


def test_localhost_and_an_address_that_is_listed_are_what_they_say(rewards):
    assert by_name(rewards.url, lambda host, port: ["::1", "127.0.0.1"], "localhost").score(TOKENS, TOKENS, *TEXTS).shape == (2,)
    assert an_api(rewards).score(TOKENS, TOKENS, *TEXTS).shape == (2,)


def test_a_name_is_looked_up_once_and_the_next_of_its_addresses_is_asked(rewards, monkeypatch):
    """What a second look would lead to is gone to by nobody."""
    monkeypatch.setattr(api, "is_of_a_host_alone", lambda address: False)  # the only addresses that there are here
    looked_up = []

    def resolve(host, port):
        looked_up.append((host, port))
        return ["127.0.0.2", "127.0.0.1"]

    assert by_name(rewards.url, resolve).score(TOKENS, TOKENS, *TEXTS).shape == (2,)
    assert looked_up == [("rewards.example", int(rewards.url.split(":")[2].split("/")[0]))]


def test_a_name_that_nobody_knows_is_an_api_that_is_down(rewards):
    def resolve(host, port):
        raise OSError("not known")

    with pytest.raises(JobFailure, match="cannot be reached"):
        by_name(rewards.url, resolve).score(TOKENS, TOKENS, *TEXTS)


@pytest.mark.parametrize("certified", ["rewards.example", "evil.example"])
def test_over_https_the_certificate_is_the_name_s_and_not_the_address_s(tmp_path, monkeypatch, certified):
    monkeypatch.setattr(api, "is_of_a_host_alone", lambda address: False)
    named = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            named.append(self.headers["Host"])
            body = json.dumps({"scores": [1.0, 2.0]}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments):
            pass

    certificate = write_certificate(tmp_path / "it.pem", certified)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    trusting = ssl.create_default_context(cafile=certificate)
    monkeypatch.setattr(api.httpx2, "Client", partial(httpx2.Client, verify=trusting))
    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        server.timeout = 20
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        asked = by_name(f"https://127.0.0.1:{server.server_port}/score", lambda host, port: ["127.0.0.1"])
        if certified == "rewards.example":
            assert asked.score(TOKENS, TOKENS, *TEXTS).tolist() == [1.0, 2.0]
            assert named == [f"rewards.example:{server.server_port}"]
        else:
            with pytest.raises(JobFailure, match="cannot be reached"):
                asked.score(TOKENS, TOKENS, *TEXTS)
            assert named == []
        thread.join()


def write_certificate(file, name):
    """Its own issuer, with its key behind it."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(subject, subject, key.public_key(), 1, now - timedelta(1), now + timedelta(1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM) + secret)
    return file
