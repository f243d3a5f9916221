import threading

from service.dispatch import Doorbell


class Recorded(Doorbell):
    """A bell whose ringing is seen, and can be made to wait."""

    def __init__(self) -> None:
        super().__init__("redis://nowhere")
        self.rung: list[str] = []
        self.may_ring = threading.Event()
        self.began = threading.Event()

    def _send(self, queue: str) -> None:
        self.began.set()
        self.may_ring.wait(60)
        self.rung.append(queue)


def test_nobody_waits_for_the_bell_and_those_that_come_while_it_rings_are_one() -> None:
    bell = Recorded()
    bell.ring("default")
    assert bell.began.wait(60)
    for _ in range(50):
        bell.ring("default")
        bell.ring("a100")
    assert bell.rung == []
    bell.may_ring.set()
    bell.close(60)
    assert bell.rung == ["default", "a100", "default"]


def test_a_bell_that_is_closed_has_rung_what_was_asked() -> None:
    bell = Recorded()
    bell.may_ring.set()
    bell.ring("default")
    bell.close(60)
    assert bell.rung == ["default"]
    bell.ring("default")
    assert bell.rung == ["default"]


def test_a_bell_that_never_rang_closes_at_once() -> None:
    Recorded().close()


def test_a_broker_that_is_away_fails_nobody(tmp_path, caplog) -> None:
    bell = Doorbell(f"redis+socket://{tmp_path}/nobody.sock")
    bell.ring("default")
    bell.close(60)
    assert "the sweep will ring it again" in caplog.text
