"""Addresses that this host would connect to on somebody's behalf: webhooks, and the APIs that score for ppo."""

import json
import socket
import time
from contextlib import ExitStack

import pytest
import torch

from service.webhooks.addresses import networks_of
from service.webhooks.delivering import Deliverer
from service.webhooks.sending import Sender
from tests.attacks.family import Family, each, record
from tests.attacks.house import KEY, opened
from tests.fake_rewards import fake_rewards
from tests.service.webhooks.receiver import receiving
from tests.specs.job_documents import a_job
from worker.failures import JobFailure
from worker.rewards.api import Patience, RewardApi

FAMILY = Family(
    name="Requests of the server's own",
    tried="webhooks and reward APIs at loopback, private, link-local and metadata addresses: plain, decimal, octal, hexadecimal, "
    "short, in every form of IPv6, with a user before the host; names that lead there, or elsewhere at a second look; redirects",
    promise="422, or refused at the moment of connecting; nothing listens to a connection of ours",
    found=(
        "192.0.0.192, where a cloud keeps its metadata, and fec0::/10 passed for public by some versions of Python's own list: "
        "the networks that IANA's registries name are now listed here, too.",
        "The name of a reward API's host could come to mean the worker's own host or its cloud's metadata: it is looked up once, "
        "and does not lead there.",
    ),
)

PRIVATE = [
    "127.0.0.1",
    "127.1.2.3",
    "0.0.0.0",
    "10.0.0.1",
    "172.16.9.9",
    "192.168.0.1",
    "169.254.169.254",
    "100.100.100.200",
    "192.0.0.192",
    "198.18.0.1",
    "224.0.0.1",
    "255.255.255.255",
    "[::1]",
    "[::]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[0:0:0:0:0:ffff:a9fe:a9fe]",
    "[::127.0.0.1]",
    "[64:ff9b::7f00:1]",
    "[64:ff9b:1::a00:1]",
    "[2002:7f00:1::]",
    "[2001:0:4136:e378:8000:63bf:80ff:fffe]",
    "[fe80::1]",
    "[fc00::1]",
    "[fec0::1]",
    "[ff02::1]",
]

PUBLIC = "93.184.215.14"

# What is no address by its looks, and what resolvers make one of.
ODD = ["2130706433", "0x7f000001", "0177.0.0.1", "0x7f.1", "127.1", "017700000001", "localhost", "localhost.", "LOCALHOST", "0"]

BAD = [
    "http://user@127.0.0.1/",
    "http://example.com:80@127.0.0.1/",
    "http://example.com#@127.0.0.1/",
    "http://127.0.0.1\\@example.com/",
    "http://example.com\t.evil/",
    "http://exa\r\nmple.com/",
    "http://[::1%25eth0]/",
    "http://１２７.0.0.1/",
    "http://127。0。0。1/",
    "ftp://example.com/",
    "file:///etc/passwd",
    "gopher://127.0.0.1:6379/_FLUSHALL",
    "unix:///var/run/docker.sock",
    "//127.0.0.1/",
    "http:///",
    "http://",
    "javascript:alert(1)",
]


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    with opened(tmp_path_factory.mktemp("ssrf"), FAMILY, reward_hosts="rewards.example, 10.0.0.7:8000") as house:
        house.door.headers = house.bob
        yield house


@pytest.fixture
def trap():
    """Listens where a request must not come, and fails the test when one has."""
    with ExitStack() as stack:
        v4 = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        port = v4.getsockname()[1]
        v6 = stack.enter_context(socket.create_server(("::1", port), family=socket.AF_INET6))
        yield port
        for listener in (v4, v6):
            listener.settimeout(0.05)
            with pytest.raises(TimeoutError):
                listener.accept()


@pytest.mark.parametrize("host", each(PRIVATE, short=10))
def test_a_webhook_at_an_address_that_is_not_public_is_refused_when_it_is_made(house, host):
    for scheme in ("http", "https"):
        response = house.door.post("/webhooks", json={"url": f"{scheme}://{host}:8080/hook"})
        assert response.status_code == 422, response.text
        assert response.json()["errors"][0]["pointer"] == "/url"


@pytest.mark.parametrize("url", BAD)
def test_a_webhook_s_url_is_read_as_one_host_or_refused(house, url):
    assert house.door.post("/webhooks", json={"url": url}).status_code == 422


def test_a_webhook_is_not_led_there_by_a_change(house):
    made = house.door.post("/webhooks", json={"url": "https://example.com/hook"}).json()
    for host in PRIVATE:
        assert house.door.patch(f"/webhooks/{made['id']}", json={"url": f"http://{host}/"}).status_code == 422
    house.door.delete(f"/webhooks/{made['id']}")


def told(house, url, sender):
    """What the log of deliveries says of a message to it, sent by hand."""
    made = house.door.post("/webhooks", json={"url": url})
    assert made.status_code == 201, made.text
    webhook_id = made.json()["id"]
    delivery = house.door.post(f"/webhooks/{webhook_id}/test").json()["id"]
    deliverer = Deliverer(house.database, KEY, sender.post, look_seconds=0.01)
    deliverer.start()
    try:
        path = f"/webhooks/{webhook_id}/deliveries/{delivery}"
        while not (tries := house.door.get(path).json()["tries"]):
            time.sleep(0.01)
    finally:
        deliverer.close()
        house.door.delete(f"/webhooks/{webhook_id}")
    record(FAMILY).note("refused" if tries[0]["status"] is None else tries[0]["status"])
    return tries[0]


@pytest.mark.parametrize("host", each(ODD, short=3))
def test_a_name_that_a_resolver_takes_for_loopback_is_refused_when_it_is_connected_to(house, trap, host):
    """By this system's own resolver."""
    detail = told(house, f"http://{host}:{trap}/hook", Sender())["detail"]
    assert "is not to be reached" in detail or "name is not known" in detail, detail


@pytest.mark.parametrize(
    "answers",
    [
        ["127.0.0.1"],
        ["::1"],
        ["169.254.169.254"],
        ["::ffff:127.0.0.1", "10.0.0.1"],
        ["fe80::1%lo"],
    ],
    ids=lambda answers: answers[0],
)
def test_a_name_that_leads_there_is_refused(house, trap, answers):
    found = told(house, f"http://rebind.example:{trap}/hook", Sender(resolve=lambda host, port: answers))
    assert (found["status"], "is not to be reached" in found["detail"]) == (None, True)


def test_a_name_that_is_public_at_the_first_look_and_loopback_at_the_second_is_looked_at_once(house, trap, monkeypatch):
    """DNS rebinding. Nothing goes to the public address: what connects is noted, and does not."""
    looks = []
    connected = []

    def resolve(host, port):
        looks.append(host)
        return [PUBLIC] if len(looks) == 1 else ["127.0.0.1"]

    def connect(address, *arguments, **options):
        connected.append(address[0])
        raise OSError("nobody is there")

    monkeypatch.setattr(socket, "create_connection", connect)
    found = told(house, f"http://rebind.example:{trap}/hook", Sender(resolve=resolve))
    assert found["status"] is None
    assert (looks, connected) == (["rebind.example"], [PUBLIC])


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_receiver_that_sends_on_is_not_followed(house, trap, status):
    with receiving() as receiver:
        receiver.answers = [(status, {"Location": f"http://127.0.0.1:{trap}/latest/meta-data"})]
        sender = Sender(networks_of("127.0.0.1/32"), resolve=lambda host, port: ["127.0.0.1"])
        found = told(house, receiver.url.replace("127.0.0.1", "hooks.example"), sender)
    assert found["status"] == status
    assert "not followed" in found["detail"]


REWARDS = [
    *(f"http://{host}/score" for host in PRIVATE),
    *(f"http://{host}/score" for host in ODD),
    *BAD,
    "https://rewards.example:8443/",
    "https://rewards.example.evil.example/",
    "https://evil.example/rewards.example",
    "https://rewards.example@evil.example/",
    "https://evil.example#rewards.example",
    "http://10.0.0.7/",
    "http://10.0.0.7:8001/",
    "http://[::ffff:10.0.0.7]:8000/",
]


@pytest.mark.parametrize("url", each(REWARDS, short=12))
def test_a_reward_api_on_a_host_that_is_not_listed_is_refused(house, url):
    document = a_job(finetuning={"stage": "ppo", "reward_model": url, "reward_model_type": "api"})
    response = house.door.post("/jobs", json=document)
    assert response.status_code == 422, response.text
    assert response.json()["errors"][0]["pointer"] == "/finetuning/reward_model"
    with pytest.raises(JobFailure, match="reward"):  # nor by a worker that is told of it all the same
        RewardApi(url, ("rewards.example", "10.0.0.7:8000"))


def test_a_listed_host_that_sends_on_is_not_followed(trap):
    ones = torch.ones(1, 2).long()
    with fake_rewards() as server:
        for status in (301, 302, 303, 307, 308):
            to = {"Location": f"http://127.0.0.1:{trap}/latest/meta-data"}
            server.answers = [lambda asked, status=status, to=to: (status, to, json.dumps({"scores": [1.0]}).encode())]
            with pytest.raises(JobFailure, match="which is not followed"):
                RewardApi(server.url, (server.host,), patience=Patience(tries=1)).score(ones, ones, ["a"], ["b"])
            record(FAMILY).note("not followed")


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "169.254.169.254", "::ffff:127.0.0.1", "fe80::1%lo"])
def test_a_listed_name_that_comes_to_mean_this_host_is_not_gone_to(trap, address):
    """DNS rebinding: whoever keeps the names of a listed host says where it is, once and then again."""
    looks = []

    def resolve(host, port):
        looks.append(host)
        return [address]

    ones = torch.ones(1, 2).long()
    host = f"rewards.example:{trap}"
    with pytest.raises(JobFailure, match=address.partition("%")[0]) as refused:
        RewardApi(f"http://{host}/score", (host,), patience=Patience(answer=3, tries=1), resolve=resolve).score(
            ones, ones, ["a"], ["b"]
        )
    assert (refused.value.reason, looks) == ("reward_api_not_allowed", ["rewards.example"])
    record(FAMILY).note("refused")


def test_a_proxy_of_the_environment_is_not_gone_through(house, trap, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{trap}")
    found = told(house, "http://hooks.example/", Sender(resolve=lambda host, port: ["10.0.0.1"]))
    assert "is not to be reached" in found["detail"]
    ones = torch.ones(1, 2).long()
    with fake_rewards() as server:
        RewardApi(server.url, (server.host,)).score(ones, ones, ["a"], ["b"])
        assert len(server.asked) == 1
