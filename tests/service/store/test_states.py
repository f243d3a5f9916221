from service.store import jobs
from service.store.session import Database
from service.store.states import ENDED, TRANSITIONS, State, sources
from tests.service.store.stored import columns_of, job_of, put, submit

PAIRS = [(source, target) for source in State for target in State]


def test_the_table_of_transitions_names_every_state() -> None:
    assert set(TRANSITIONS) == set(State)


def test_the_sources_of_a_state_are_the_table_read_backwards() -> None:
    assert {(source, target) for target in State for source in sources(target)} == {
        (source, target) for source, targets in TRANSITIONS.items() for target in targets
    }


def test_ended_states_are_left_only_to_be_tried_again() -> None:
    assert {State.SUCCEEDED, State.FAILED, State.CANCELLED} == ENDED
    assert all(TRANSITIONS[state] <= {State.QUEUED} for state in ENDED)
    assert TRANSITIONS[State.SUCCEEDED] == frozenset()


def test_only_a_waiting_job_can_begin_to_run() -> None:
    assert sources(State.RUNNING) == (State.QUEUED,)


def test_a_job_moves_exactly_where_the_table_allows(database: Database) -> None:
    job_id = submit(database)
    moved = {(source, target) for source, target in PAIRS if moves(database, job_id, source, target)}
    assert moved == {(source, target) for source, target in PAIRS if target in TRANSITIONS[source]}


def moves(database: Database, job_id: str, source: State, target: State) -> bool:
    """Whether the one door lets the job from one state to the other; and that it then is there, or still here."""
    put(database, job_id, source)
    before = job_of(database, job_id)
    with database.transaction() as session:
        moved = jobs.move(session, job_id, target, **columns_of(target)) is not None
    after = job_of(database, job_id)
    assert after.state == (target if moved else source)
    assert after.version == before.version + moved
    assert (after.finished_at is not None) == (after.state in ENDED)
    return moved


def test_a_move_whose_condition_fails_does_not_happen(database: Database) -> None:
    job_id = submit(database)
    with database.transaction() as session:
        moved = jobs.move(session, job_id, State.CANCELLED, jobs.Job.attempt == 7)
    assert moved is None
    assert job_of(database, job_id).state == State.QUEUED
