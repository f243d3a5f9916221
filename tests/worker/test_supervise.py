from service.specs.read import read_job
from service.store import jobs, leases, metrics
from service.store.session import Database
from tests.running import job
from worker import supervise
from worker.settings import WorkerSettings


def test_an_attempt_is_handed_what_was_measured_of_checkpoints_and_not_the_base(database: Database) -> None:
    """The base's number in the store, −1, is no update: taken for one it would be a checkpoint among the others."""
    document = job()
    with database.transaction() as session:
        jobs.create(session, "local", document, read_job(document))
        held = leases.claim(session, ["default"], "worker-1", 60)
        assert held is not None
        for global_step in (metrics.BASE, 10):
            metrics.record_measurement(session, held, "sft", global_step, "validation", {"nll": [1.0]})
        work = supervise._work(session, held, WorkerSettings(), None)
    assert work.measurements == {"sft": [{"global_step": 10, "split": "validation", "documents": {"nll": [1.0]}}]}
