import hashlib
import json
from pathlib import Path

import pyarrow
import pyarrow.ipc
import pyarrow.parquet
import pytest

from service.specs.dataset_info import DatasetEntry
from service.specs.reasons import Reason
from worker.data import files
from worker.data.files import READERS, read_rows
from worker.failures import JobFailure

SHARED = Path(__file__).parents[4] / "shared" / "data"


def rows_of(folder, name, **entry):
    return list(read_rows(folder, "it", DatasetEntry(file_name=name, **entry)))


def refusal(folder, name, content=None, **entry) -> JobFailure:
    if content is not None:
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(JobFailure) as caught:
        rows_of(folder, name, **entry)
    assert str(folder) not in caught.value.sentence, "a path on this host is nobody's business"
    return caught.value


def test_json_is_a_list_of_objects(tmp_path):
    (tmp_path / "a.json").write_text('[{"x": "1"}, {"x": "2"}]')
    assert [(row.values, row.file, row.number) for row in rows_of(tmp_path, "a.json")] == [
        ({"x": "1"}, "a.json", 1),
        ({"x": "2"}, "a.json", 2),
    ]


def test_json_lines_keep_the_numbers_of_their_lines(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"x": 1}\n\n{"x": "\u2028"}\r\n')
    assert [(row.values, row.number) for row in rows_of(tmp_path, "a.jsonl")] == [({"x": 1}, 1), ({"x": "\u2028"}, 3)]


def test_a_text_file_has_one_document_a_line(tmp_path):
    (tmp_path / "a.txt").write_bytes("\ufeffone \n \n\n two\u2028three\r\nfour".encode())
    expected = [("one ", 1), (" two\u2028three", 4), ("four", 5)]
    assert [(row.values["text"], row.number) for row in rows_of(tmp_path, "a.txt")] == expected


def test_a_folder_is_all_its_files_in_order_of_name(tmp_path):
    (tmp_path / "many").mkdir()
    (tmp_path / "many" / "b.json").write_text('[{"text": "two"}]')
    (tmp_path / "many" / "a.jsonl").write_text('{"text": "one"}')
    (tmp_path / "many" / ".hidden").write_text("not a row")
    rows = rows_of(tmp_path, "many")
    assert [(row.file, row.values["text"]) for row in rows] == [("many/a.jsonl", "one"), ("many/b.json", "two")]


def test_a_folder_of_several_kinds_is_refused_with_a_file_of_each(tmp_path):
    (tmp_path / "many").mkdir()
    for name in ("b.txt", "a.jsonl", "c.jsonl"):
        (tmp_path / "many" / name).write_text("{}")
    sentence = "The files of a folder must be of one kind, and here are several: a.jsonl (json), b.txt (text)."
    assert refusal(tmp_path, "many").sentence == sentence


VALUES = [
    {"text": "one", "n": 1, "list": [{"a": "x"}]},
    {"text": None, "n": 2, "list": []},
    {"text": "drei\n", "n": 3, "list": None},
]


def write_parquet(path, table):
    pyarrow.parquet.write_table(table, path, row_group_size=2)


def write_arrow_stream(path, table):
    with pyarrow.ipc.new_stream(path, table.schema) as writer:
        writer.write_table(table, max_chunksize=2)


def write_arrow_file(path, table):
    with pyarrow.ipc.new_file(path, table.schema) as writer:
        writer.write_table(table, max_chunksize=2)


COLUMNAR = {"a.parquet": write_parquet, "a.arrow": write_arrow_stream, "b.arrow": write_arrow_file}


@pytest.mark.parametrize("name", COLUMNAR)
def test_columnar_files_give_the_values_that_were_written(tmp_path, name, monkeypatch):
    monkeypatch.setattr(files, "ROWS_AT_ONCE", 1)
    COLUMNAR[name](tmp_path / name, pyarrow.Table.from_pylist(VALUES))
    assert [(row.values, row.number) for row in rows_of(tmp_path, name)] == list(zip(VALUES, (1, 2, 3), strict=True))


@pytest.mark.parametrize("name", COLUMNAR)
def test_a_columnar_file_without_rows_is_refused(tmp_path, name):
    COLUMNAR[name](tmp_path / name, pyarrow.table({"text": pyarrow.array([], pyarrow.string())}))
    assert "holds no rows" in refusal(tmp_path, name).sentence


def test_a_csv_file_has_its_columns_in_the_first_line_and_text_in_every_cell(tmp_path):
    (tmp_path / "a.csv").write_bytes('\ufeffn,text\r\n1,"two\nlines, and a ""quote"""\r\n\r\n02,\r\n'.encode())
    expected = [({"n": "1", "text": 'two\nlines, and a "quote"'}, 1), ({"n": "02", "text": ""}, 2)]
    assert [(row.values, row.number) for row in rows_of(tmp_path, "a.csv")] == expected


def test_a_cell_may_be_as_long_as_it_is(tmp_path):
    (tmp_path / "a.csv").write_text("text\n" + "x" * 200_000)
    assert len(rows_of(tmp_path, "a.csv")[0].values["text"]) == 200_000


SPLIT_FILES = ("train-00000-of-00002", "train-00001-of-00002", "validation", "test_1")


@pytest.mark.parametrize(
    ("split", "expected"),
    [("train", ["train-00000-of-00002", "train-00001-of-00002"]), ("validation", ["validation"]), ("test", ["test_1"])],
)
def test_files_that_are_named_after_splits_belong_to_them(tmp_path, split, expected):
    (tmp_path / "many").mkdir()
    for name in SPLIT_FILES:
        (tmp_path / "many" / f"{name}.txt").write_text(name)
    rows = read_rows(tmp_path, "it", DatasetEntry(file_name="many"), split)
    assert [row.values["text"] for row in rows] == expected


def test_a_folder_with_one_file_that_is_named_otherwise_is_all_train(tmp_path):
    (tmp_path / "many").mkdir()
    for name in (*SPLIT_FILES, "training2", "trainers"):
        (tmp_path / "many" / f"{name}.txt").write_text(name)
    assert len(rows_of(tmp_path, "many")) == 6


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("many", "The folder many has no files of the split 'test'; there are: train, validation."),
        ("a.txt", "a.txt is one file, whose rows are the split train; there is no split 'test'."),
    ],
)
def test_a_split_that_is_not_there_is_refused(tmp_path, name, says):
    (tmp_path / "many").mkdir()
    for file in ("a.txt", "many/train.txt", "many/dev.txt"):
        (tmp_path / file).write_text("x")
    with pytest.raises(JobFailure) as caught:
        list(read_rows(tmp_path, "it", DatasetEntry(file_name=name), "test"))
    assert caught.value.sentence == says


def test_reading_stops_where_it_is_no_longer_asked(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"x": 1}\nnot json')
    assert next(read_rows(tmp_path, "it", DatasetEntry(file_name="a.jsonl"))).number == 1


@pytest.mark.parametrize(
    ("name", "content", "reason", "where", "says"),
    [
        ("a.json", b'[{"x": "1"},\n{"x": "\xff"}]', Reason.BAD_ROW, {"line": 2}, "line 2 holds the byte 0xff"),
        ("a.jsonl", b'{"x": 1}\n\xc3(\n', Reason.BAD_ROW, {"row": 2, "line": 2}, "line 2 holds the byte 0xc3"),
        ("a.txt", b"one\ntw\x80o", Reason.BAD_ROW, {"row": 2, "line": 2}, "line 2 holds the byte 0x80"),
        ("a.json", '[{"x": 1},\n {"x" 2}]', Reason.BAD_ROW, {"line": 2, "column": 7}, "at line 2, column 7"),
        ("a.json", '{"x": 1}\n{"x": 2}', Reason.BAD_ROW, {"line": 2, "column": 1}, "should end in .jsonl"),
        ("a.json", "[" + "1" * 5000 + "]", Reason.BAD_DATA, {}, "cannot be read as JSON"),
        ("a.json", "[" * 100_000, Reason.BAD_DATA, {}, "cannot be read as JSON"),
        ("a.jsonl", '{"x": 1}\n{"x": }', Reason.BAD_ROW, {"row": 2, "line": 2, "column": 7}, "row 2 is not valid JSON"),
        ("a.json", '{"x": 1}', Reason.BAD_DATA, {}, "must be a list of objects, not an object"),
        ("a.json", "[{}, 3]", Reason.BAD_ROW, {"row": 2}, "row 2 must be an object with the columns as keys, not a number"),
        ("a.jsonl", "{}\n[1]", Reason.BAD_ROW, {"row": 2}, "row 2 must be an object with the columns as keys, not a list"),
        ("a.json", "[]", Reason.BAD_DATA, {}, "a.json holds no rows"),
        ("a.json", " \n", Reason.BAD_DATA, {}, "a.json holds no rows"),
        ("a.jsonl", "\n\n", Reason.BAD_DATA, {}, "a.jsonl holds no rows"),
        ("a.txt", "", Reason.BAD_DATA, {}, "a.txt holds no rows"),
        ("a.csv", "x,y\n1,2\n3\n", Reason.BAD_ROW, {"row": 2, "line": 3}, "row 2 has 1 cells, and there are 2 columns"),
        ("a.csv", 'x,y\n1,2\n3,"4', Reason.BAD_ROW, {"row": 2, "line": 3}, "row 2 is not valid CSV: unexpected end of data"),
        ("a.csv", "x,y,x\n1,2,3", Reason.BAD_DATA, {"line": 1}, "several columns named 'x'"),
        ("a.csv", "x,y\n", Reason.BAD_DATA, {}, "a.csv holds no rows"),
        ("a.csv", "", Reason.BAD_DATA, {}, "a.csv holds no rows"),
        ("a.csv", b"x\n1\n\xff", Reason.BAD_ROW, {"line": 3}, "line 3 holds the byte 0xff"),
        ("a.parquet", "PAR1", Reason.BAD_DATA, {}, "a.parquet cannot be read as Parquet: "),
        ("a.arrow", "PAR1 and more bytes", Reason.BAD_DATA, {}, "a.arrow cannot be read as Arrow: "),
        ("a.arrow", "", Reason.BAD_DATA, {}, "a.arrow cannot be read as Arrow: "),
        ("a.xlsx", "?", Reason.BAD_DATA, {}, ", ".join(READERS)),
        ("a.txt", None, Reason.MISSING_DATA, {}, "There is no file a.txt"),
    ],
)
def test_a_bad_file_is_refused_with_its_place(tmp_path, name, content, reason, where, says):
    failure = refusal(tmp_path, name, content)
    assert (failure.reason, failure.where) == (reason, {"file": name, **where})
    assert says in failure.sentence


def test_an_empty_folder_is_refused(tmp_path):
    (tmp_path / "many").mkdir()
    assert "holds no files" in refusal(tmp_path, "many").sentence


@pytest.mark.parametrize("name", ["../secret.txt", "/etc/hostname"])
def test_nothing_outside_the_folder_is_read(tmp_path, name):
    (tmp_path / "secret.txt").write_text("secret")
    (tmp_path / "data").mkdir()
    assert refusal(tmp_path / "data", name).reason == Reason.BAD_DATA


def test_a_link_in_a_folder_is_not_followed_out_of_it(tmp_path):
    (tmp_path / "secret.txt").write_text("secret")
    (tmp_path / "data" / "many").mkdir(parents=True)
    (tmp_path / "data" / "many" / "a.txt").symlink_to(tmp_path / "secret.txt")
    assert refusal(tmp_path / "data", "many").reason == Reason.BAD_DATA


def test_a_data_set_that_is_nowhere_is_refused(tmp_path):
    failure = refusal(tmp_path, None)
    assert (failure.reason, failure.sentence) == (
        Reason.BAD_DATA,
        "The data set 'it' has neither a file_name nor a hf_hub_url or ms_hub_url.",
    )


def test_the_checksum_is_checked(tmp_path):
    (tmp_path / "a.txt").write_text("one")
    right = hashlib.sha1(b"one").hexdigest()
    assert len(rows_of(tmp_path, "a.txt", file_sha1=right.upper())) == 1
    failure = refusal(tmp_path, "a.txt", b"two", file_sha1=right)
    assert failure.reason == Reason.BAD_DATA
    assert right in failure.sentence


def test_one_checksum_does_not_go_with_many_files(tmp_path):
    (tmp_path / "many").mkdir()
    (tmp_path / "many" / "a.txt").write_text("one")
    (tmp_path / "many" / "b.txt").write_text("two")
    assert "a folder of 2 files" in refusal(tmp_path, "many", file_sha1="0" * 40).sentence


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the shared data")
@pytest.mark.parametrize(("name", "rows"), [("alpaca_en_demo.json", 999), ("identity.json", 91), ("wiki_demo.txt", 30)])
def test_real_files_have_the_rows_they_are_said_to_have(name, rows):
    assert len(rows_of(SHARED, name)) == rows


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the shared data")
def test_a_real_json_file_reads_the_same_as_json_lines(tmp_path):
    rows = json.loads((SHARED / "identity.json").read_text())
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    assert [row.values for row in rows_of(tmp_path, "a.jsonl")] == rows
