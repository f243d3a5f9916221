import os
import re

from service.store import ids
from service.store.ids import AT_ONCE, new_id


def test_an_id_is_its_kind_and_96_bits_and_comes_once() -> None:
    made = [new_id("job") for _ in range(3 * AT_ONCE + 1)]
    assert all(re.fullmatch("job-[0-9a-f]{24}", one) for one in made)
    assert len(set(made)) == len(made)


def test_a_forked_child_does_not_give_out_its_parents_ids() -> None:
    new_id("job")
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, new_id("job").encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reading, 100).decode() != new_id("job")


def test_the_bits_are_the_systems(monkeypatch) -> None:
    monkeypatch.setattr(os, "urandom", lambda n: bytes(n))
    ids._random.forget()
    try:
        assert new_id("job") == "job-" + 24 * "0"
    finally:
        ids._random.forget()
