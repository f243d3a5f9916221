"""What a POST /jobs costs the processor before it is written: with what the database is asked, over what the document says.

    python benchmarks/post_cpu.py [--rounds 300]

Where no worker has reported, where one without a GPU has, and where one with a GPU has: there the job's memory is estimated too.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from service.api.lately import Lately  # noqa: E402
from service.api.reading import Reading  # noqa: E402
from service.library.check import FoundWell, Roots, check  # noqa: E402
from service.settings import Settings  # noqa: E402
from service.specs.read import read_job  # noqa: E402
from service.store import schema, workers  # noqa: E402
from service.store.session import Database  # noqa: E402
from tests.service.store.staffed import a_report  # noqa: E402

JOB = json.loads((ROOT / "examples" / "sft-lora.json").read_text(encoding="utf-8"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=300)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory(prefix="fb-post-") as home:
        database = Database(f"sqlite:///{home}/finebits.db")
        schema.upgrade(database)
        settings = Settings(home=home, models_root=ROOT / "examples" / "models", datasets_root=ROOT / "examples")
        for name, report in {"no worker": None, "no GPU": a_report("one"), "a GPU": a_report("two", gpus=1)}.items():
            if report is not None:
                with database.transaction() as session:
                    workers.register(session, report)
            tell(name, *compared(database, settings, rounds))
        database.close()


def compared(database: Database, settings: Settings, rounds: int) -> tuple[float, float]:
    """Seconds of the processor, medians: all of it, and the document against the files alone."""
    roots, well = Roots(settings.models_root, settings.datasets_root), FoundWell()
    reading = Reading(settings, database, well, Lately())
    whole = lambda: reading.new_job("ann", JOB)  # noqa: E731
    bare = lambda: read_job(JOB, partial(check, roots, well=well))  # noqa: E731
    taken = {side: [seconds(side) for _ in range(rounds)] for side in (whole, bare)}  # both are warm after a few
    return statistics.median(taken[whole]), statistics.median(taken[bare])


def seconds(side: Callable[[], object]) -> float:
    began = time.thread_time()
    side()
    return time.thread_time() - began


def tell(name: str, whole: float, bare: float) -> None:
    print(f"{name:12} {1000 * whole:7.3f} ms over {1000 * bare:7.3f} ms = {whole / bare:.2f}", flush=True)


if __name__ == "__main__":
    main()
