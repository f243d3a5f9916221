import socket
import threading
from collections.abc import Iterator, Sequence
from time import monotonic

import pytest

from service.webhooks.addresses import networks_of
from service.webhooks.sending import Sender
from tests.service.webhooks.receiver import Receiver, receiving

LOOPBACK = networks_of("127.0.0.0/8")


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as opened:
        yield opened


def post(sender: Sender, url: str) -> tuple[int | None, str]:
    went = sender.post(url, {"webhook-id": "evt-1"}, b"{}")
    return went.status, went.detail


def test_a_message_is_posted(receiver: Receiver) -> None:
    assert post(Sender(LOOPBACK), receiver.url) == (200, "Delivered.")
    [message] = receiver.came
    assert (message.path, message.id, message.body) == ("/hook", "evt-1", b"{}")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0"])
def test_loopback_is_refused_by_number_and_by_name(receiver: Receiver, host: str) -> None:
    status, detail = post(Sender(), receiver.url.replace("127.0.0.1", host))
    assert status is None
    assert "is not to be reached" in detail
    assert receiver.came == []


def test_a_redirect_is_not_followed_wherever_it_leads(receiver: Receiver) -> None:
    with receiving() as other:
        receiver.answers = [(307, {"Location": other.url})]
        status, detail = post(Sender(LOOPBACK), receiver.url)
        assert other.came == []
    assert (status, detail) == (307, "The receiver sends on to another place (status 307), which is not followed.")


def test_a_name_is_looked_up_once_and_the_connection_goes_to_the_address_that_was_looked_at(receiver: Receiver) -> None:
    """A name that means a public address when it is looked at, and this host a moment later."""
    asked = []

    def resolve(host: str, port: int) -> Sequence[str]:
        asked.append(host)
        return ["127.0.0.1"] if len(asked) == 1 else ["127.0.0.2"]

    assert post(Sender(LOOPBACK, resolve=resolve), f"http://hooks.example:{receiver.port}/hook") == (200, "Delivered.")
    assert asked == ["hooks.example"]
    assert receiver.came[0].headers["host"] == f"hooks.example:{receiver.port}"


def test_of_a_name_s_addresses_only_those_that_may_be_are_connected_to(receiver: Receiver) -> None:
    with socket.create_server(("127.0.0.2", receiver.port)) as trap:
        trap.settimeout(0.2)
        sender = Sender(networks_of("127.0.0.1/32"), resolve=lambda host, port: ["127.0.0.2", "127.0.0.1"])
        assert post(sender, f"http://hooks.example:{receiver.port}/hook") == (200, "Delivered.")
        with pytest.raises(TimeoutError):
            trap.accept()


def test_one_that_never_answers_is_given_up_in_time(receiver: Receiver) -> None:
    receiver.answers = [None]
    assert post(Sender(LOOPBACK, answer_seconds=0.3), receiver.url) == (None, "There was no answer within 0.3 seconds.")


def test_one_that_sends_a_byte_now_and_then_is_given_up_in_time_too() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def drip() -> None:
            connection, _ = server.accept()
            with connection:
                for byte in b"HTTP/1.1 200 OK\r\nx-padding: " + b"x" * 1000:
                    try:
                        connection.sendall(bytes([byte]))
                    except OSError:
                        return
                    stopped.wait(0.05)

        stopped = threading.Event()
        thread = threading.Thread(target=drip, daemon=True)
        thread.start()
        began_at = monotonic()
        _, detail = post(Sender(LOOPBACK, answer_seconds=0.5), f"http://127.0.0.1:{server.getsockname()[1]}/")
        stopped.set()
        thread.join()
    assert detail == "There was no answer within 0.5 seconds."
    assert monotonic() - began_at < 45, "the drip lasts 50"


def test_who_is_not_there_and_who_speaks_no_http_are_told_apart_from_an_answer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        def greet() -> None:
            connection, _ = server.accept()
            with connection:
                connection.sendall(b"SSH-2.0-OpenSSH\r\n")

        thread = threading.Thread(target=greet, daemon=True)
        thread.start()
        status, detail = post(Sender(LOOPBACK), f"http://127.0.0.1:{port}/")
        thread.join()
    assert (status, "cannot be reached" in detail) == (None, True)
    status, detail = post(Sender(LOOPBACK), f"http://127.0.0.1:{port}/")
    assert (status, "cannot be reached" in detail) == (None, True)


def test_a_receiver_may_ask_for_time(receiver: Receiver) -> None:
    receiver.answers = [(503, {"Retry-After": "120"}), (429, {"Retry-After": "Fri, 01 Jan 2100 00:00:00 GMT"}), (500, {})]
    waits = [Sender(LOOPBACK).post(receiver.url, {}, b"{}").retry_after for _ in range(3)]
    assert waits[0] == 120
    assert waits[1] is not None
    assert waits[1] > 3600
    assert waits[2] is None
