"""GET /overview: one moment of the service, in counts."""

from service.store import wishes
from service.store.tables import Slot
from tests.service.api import made
from tests.service.store import staffed


def test_what_waits_runs_and_has_ended_is_counted_by_queue(door):
    database = door.app.state.database
    door.submit()
    door.submit(resources={"queue": "large"})
    held = made.claim(database)
    cancelled, waiting = door.submit(), door.submit()
    with database.transaction() as session:
        wishes.cancel(session, "local", cancelled)
        wishes.pause(session, "local", waiting)
    door.submit()
    now = door.get("/overview").json()
    oldest = [queue.pop("oldest_queued_seconds") for queue in now["queues"]]
    assert now["queues"] == [
        {"queue": "default", "queued": 1, "running": 1, "paused": 1},
        {"queue": "large", "queued": 1, "running": 0, "paused": 0},
    ]
    assert all(0 <= seconds < 60 for seconds in oldest)
    assert (now["ended"], now["reasons"]) == ({"cancelled": 1}, {})
    made.succeed(database, held)
    assert door.get("/overview").json()["ended"] == {"cancelled": 1, "succeeded": 1}


def test_slots_of_workers_that_are_there_are_counted(door):
    database = door.app.state.database
    assert door.get("/overview").json() | {"queues": 0} == {
        "queues": 0,
        "ended": {},
        "reasons": {},
        "tokens_per_second": 0.0,
        "workers": {},
        "slots": 0,
        "slots_used": 0.0,
        "slots_in_trouble": 0,
    }
    me = staffed.enter(database, "a", gpus=2, cpus=0)
    staffed.enter(database, "gone", gpus=4, cpus=0)
    staffed.silence(database, "gone")
    door.submit()
    assert staffed.place(database, me)
    with database.transaction() as session:
        session.get(Slot, ("a", 1)).trouble = "the GPU fell off the bus"
    now = door.get("/overview").json()
    assert now["workers"] == {"up": 1, "lost": 1}
    assert (now["slots"], now["slots_used"], now["slots_in_trouble"]) == (2, 1.0, 1)
