"""Wishes that are heard in the midst of work which hears none."""

import signal
import sys
import threading
import time

import pytest

from worker import interruption
from worker.interruption import interruptible
from worker.run import Run, Stopped


class Deaf:
    def send_bytes(self, buf):
        pass


@pytest.fixture
def run(tmp_path):
    return Run(Deaf(), tmp_path)


def wish_soon(run, wish="cancel"):
    threading.Timer(0.3, setattr, (run, "wish", wish)).start()


def for_ever(seconds=120):
    ends_at = time.monotonic() + seconds
    while time.monotonic() < ends_at:
        time.sleep(0.01)
    raise AssertionError("nothing came in between")


@pytest.mark.parametrize("wish", ["cancel", "stop"])
def test_work_that_would_never_end_ends_by_a_wish(run, wish):
    wish_soon(run, wish)
    with pytest.raises(Stopped, match=wish), interruptible(run):
        for_ever()


def test_one_long_wait_ends_too(run):
    wish_soon(run)
    with pytest.raises(Stopped), interruptible(run):
        threading.Event().wait()


def test_a_library_that_swallows_it_is_interrupted_again(run):
    swallowed = []

    def work():
        try:
            run.wish = "cancel"
            for_ever()
        except BaseException as error:
            swallowed.append(error)
        for_ever()

    with pytest.raises(Stopped), interruptible(run):
        work()
    assert not isinstance(swallowed[0], Exception), "or it would be taken for a fault of a file"


class Finalized:
    def __del__(self):
        time.sleep(0.7)


def test_one_that_comes_into_a_finalizer_which_nothing_can_leave_is_sent_again_at_once(run, capsys, monkeypatch):
    monkeypatch.setattr(interruption, "_AGAIN_SECONDS", 1000)  # what a library has swallowed is sent again long after

    def work():
        run.wish = "cancel"
        Finalized()  # ends here, with the wish in its midst
        for_ever()

    with pytest.raises(Stopped), interruptible(run):
        work()
    assert capsys.readouterr().err == "", "it is no fault that anybody need read of"


def test_what_else_a_finalizer_raises_is_told_as_ever(run, monkeypatch):
    class Broken:
        def __del__(self):
            raise ValueError("its own")

    told = []
    monkeypatch.setattr(sys, "unraisablehook", lambda what: told.append(str(what.exc_value)))
    hook = sys.unraisablehook
    with interruptible(run):
        Broken()
    assert (told, sys.unraisablehook) == (["its own"], hook)


def test_work_that_ends_by_itself_is_left_alone_and_so_is_its_error(run):
    before = signal.getsignal(signal.SIGUSR1)
    with interruptible(run):
        pass
    with pytest.raises(ValueError, match="its own"), interruptible(run):
        raise ValueError("its own")
    assert signal.getsignal(signal.SIGUSR1) is before
    assert not [thread for thread in threading.enumerate() if thread.name == "wishes"]


def test_a_wish_that_came_before_or_at_the_end_is_heard(run):
    with pytest.raises(Stopped), interruptible(run):
        run.wish = "stop"
    with pytest.raises(Stopped), interruptible(run):
        pytest.fail("it was begun")


def test_elsewhere_than_in_the_main_thread_work_goes_on(run):
    done = []

    def work():
        with interruptible(run):
            done.append(signal.getsignal(signal.SIGUSR1))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [signal.getsignal(signal.SIGUSR1)]
