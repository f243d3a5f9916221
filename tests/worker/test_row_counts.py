"""Rows of data sets that are counted behind their upload."""

import json
import threading
import tracemalloc
from pathlib import Path

import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet
import pytest

from service.library.errors import LibraryError
from service.store import files
from service.store.ids import new_id
from service.store.session import Database
from worker.data.counting import rows_of
from worker.row_counts import RowCounts
from worker.settings import WorkerSettings

ROWS = [{"instruction": 'a "quoted" {brace} [list] \\', "output": "b", "history": [["x", "y"], [{"z": 1}]]}] * 3


def test_lines_cells_and_texts_are_counted_as_they_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("".join(f"{json.dumps(row)}\n\n" for row in ROWS))
    (tmp_path / "a.csv").write_text('instruction,output\n"two\nlines",b\nc,d\n')
    (tmp_path / "a.txt").write_text("one\n\ntwo")
    assert [rows_of(tmp_path / f"a.{kind}") for kind in ("jsonl", "csv", "txt")] == [3, 2, 2]


@pytest.mark.parametrize("indent", [None, 2])
def test_a_list_is_counted_without_being_held(tmp_path: Path, indent: int | None) -> None:
    file = tmp_path / "a.json"
    file.write_text("\ufeff" + json.dumps(ROWS * 20_000, indent=indent), encoding="utf-8")
    tracemalloc.start()
    assert rows_of(file) == 60_000
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < file.stat().st_size / 20


@pytest.mark.parametrize("text", ['{"a": [{}, {}]}', "[]", '[{"a": 1}, {"b":', '[{"a": "[{"}', "null"])
def test_what_is_no_whole_list_of_objects_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(LibraryError, match=r"a\.json must be a list of objects"):
        rows_of(tmp_path / "a.json")


def test_columnar_files_are_counted(tmp_path: Path) -> None:
    table = pa.table({"text": ["a", "b", "c", "d"]})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet", row_group_size=3)
    for name, opened in (("file", pyarrow.ipc.new_file), ("stream", pyarrow.ipc.new_stream)):
        with opened(tmp_path / f"{name}.arrow", table.schema) as writer:
            writer.write_table(table, max_chunksize=3)
    assert [rows_of(tmp_path / name) for name in ("a.parquet", "file.arrow", "stream.arrow")] == [4, 4, 4]


def keep(database: Database, root: Path, name: str, content: str, rows: int | None = None, purpose: str = "fine-tune") -> str:
    file_id = new_id("file")
    path = f"{files.folder_of(file_id)}/{name}"
    (root / path).parent.mkdir(parents=True)
    (root / path).write_text(content)
    with database.transaction() as session:
        files.add(
            session, "ann", file_id, purpose=purpose, name=name, path=path, size=len(content), sha256="", entry={}, rows=rows
        )
    return file_id


def test_what_nobody_has_counted_is_counted_and_what_cannot_be_is_left(
    database: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broken = keep(database, tmp_path, "a.json", '[{"a":')
    lines = keep(database, tmp_path, "b.jsonl", '{"text": "a"}\n{"text": "b"}\n')
    keep(database, tmp_path, "c.jsonl", "", rows=7)
    keep(database, tmp_path, "d.jsonl", "{}\n", purpose="assistants")
    counts = RowCounts(WorkerSettings(home=tmp_path, artifacts_root=tmp_path), threading.Event())
    counts.once(database)
    with database.reading() as session:
        found = {file.name: file.rows for file in files.listing(session, "ann", 10)[0]}
        assert files.uncounted(session, {broken}) is None
        assert files.uncounted(session).id == broken  # type: ignore[union-attr]
    assert found == {"a.json": None, "b.jsonl": 2, "c.jsonl": 7, "d.jsonl": None}
    assert f"the rows of {broken} are not counted: a.json must be a list of objects" in caplog.text
    assert lines not in caplog.text


def test_a_worker_that_stops_counts_no_further(database: Database, tmp_path: Path) -> None:
    keep(database, tmp_path, "b.jsonl", '{"text": "a"}\n')
    stopping = threading.Event()
    stopping.set()
    RowCounts(WorkerSettings(home=tmp_path, artifacts_root=tmp_path), stopping).once(database)
    with database.reading() as session:
        assert files.uncounted(session) is not None
