import socket

import pytest

from service import ports
from service.ports import free_port, port_that_can_be_bound


def test_no_port_is_given_twice_and_none_that_is_taken() -> None:
    first = free_port()
    with socket.create_server(("127.0.0.1", first + 1)):
        others = [free_port() for _ in range(5)]
    assert len({first, first + 1, *others}) == 7


def test_none_is_one_that_a_kernel_gives_to_whoever_asks_for_any() -> None:
    assert 1024 < free_port() < 32_768, "where Linux begins, unless it is told otherwise; others begin higher"


def test_where_all_of_those_are_taken_the_kernel_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setattr(ports, "FIRST", taken.getsockname()[1])
        monkeypatch.setattr(ports, "COUNT", 1)
        assert free_port() != taken.getsockname()[1]


def test_nothing_can_listen_on_a_host_that_is_not_this_one() -> None:
    with pytest.raises(OSError, match="assign"):
        free_port("192.0.2.1")
    assert port_that_can_be_bound("127.0.0.1", 0) > 0
