"""What only a worker finds out: a job that cannot go on ends with a reason, a sentence, and the place of what is wrong."""

import hashlib
import json
import pickle

import pyarrow
import pyarrow.csv
import pyarrow.parquet
import pytest
import torch

from service.specs.reasons import Reason
from tests.worker.stages.attempts import a_job, a_pretraining_job

GOOD = {"instruction": "what says the cat", "output": "the cat"}
BAD = GOOD | {"output": None}


def put(host, content, file="it.json", **entry):
    """A data set "it" in one file."""
    folder = host.datasets / "data"
    (folder / file).parent.mkdir(exist_ok=True)
    (folder / file).write_bytes(content if isinstance(content, bytes) else content.encode())
    info = json.loads((folder / "dataset_info.json").read_text())
    (folder / "dataset_info.json").write_text(json.dumps(info | {"it": {"file_name": file, **entry}}))


def ended(host, **data):
    attempt = host.attempt(a_job(data={"dataset": "it", "val_size": 0} | data))
    assert attempt.of("points") == []
    return attempt.error


def arrow_of(rows):
    table = pyarrow.Table.from_pylist(rows)
    sink = pyarrow.BufferOutputStream()
    with pyarrow.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def parquet_of(rows):
    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), sink)
    return sink.getvalue().to_pybytes()


ROWS = {
    "it.json": json.dumps([GOOD, BAD]),
    "it.jsonl": f"{json.dumps(GOOD)}\n{json.dumps(BAD)}",
    "it.arrow": arrow_of([GOOD, BAD]),
    "it.parquet": parquet_of([GOOD, BAD]),
}


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("file", ROWS)
def test_a_bad_row_is_named_with_its_file_its_row_and_its_column(host, file, streaming):
    put(host, ROWS[file], file)
    attempt = host.attempt(
        a_job(data={"dataset": "it", "val_size": 0, "streaming": streaming}, measures={"names": ""}, training={"max_steps": 2})
    )
    error = attempt.error
    assert (error.reason, error.where) == (Reason.BAD_ROW, {"file": file, "row": 2, "column": "output"})
    assert error.sentence == f"{file}, row 2: the column 'output' must be a string."


@pytest.mark.parametrize(
    ("file", "content", "where", "says"),
    [
        ("it.csv", "instruction,output\na,b\na\n", {"row": 2, "line": 3}, "row 2 has 1 cells, and there are 2 columns"),
        ("it.csv", 'instruction,output\na,"b\n', {"row": 1, "line": 2}, "row 1 is not valid CSV"),
        ("it.json", '[{"instruction": "a"},\n oops]', {"line": 2, "column": 2}, "not valid JSON: Expecting value at line 2"),
        ("it.json", json.dumps([GOOD, 3]), {"row": 2}, "row 2 must be an object"),
        ("it.jsonl", f"{json.dumps(GOOD)}\n{{", {"row": 2, "line": 2, "column": 2}, "row 2 is not valid JSON"),
        ("it.jsonl", json.dumps(GOOD).encode() + b"\n\xff", {"row": 2, "line": 2}, "line 2 holds the byte 0xff"),
    ],
)
def test_a_row_that_cannot_be_read_is_named_with_its_place(host, file, content, where, says):
    put(host, content, file)
    error = ended(host)
    assert (error.reason, error.where) == (Reason.BAD_ROW, {"file": file, **where})
    assert says in error.sentence


def test_a_bad_line_of_text_is_named_too(host):
    put(host, b"the quick fox\nthe \xff fox\n" * 20, "it.txt", columns={"prompt": "text"})
    error = host.attempt(a_pretraining_job(data={"dataset": "it", "val_size": 0})).error
    assert (error.reason, error.where) == (Reason.BAD_ROW, {"file": "it.txt", "row": 2, "line": 2})


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({"overlength": "drop", "cutoff_len": 4}, "No rows are left to train on: every row is longer than cutoff_len 4."),
        ({"val_size": 3}, "val_size 3 holds out 3 rows, and there are 3: none would be left to train on."),
    ],
)
def test_nothing_that_is_left_to_train_on_is_said_with_the_reason(host, data, says):
    put(host, json.dumps([GOOD] * 3))
    error = ended(host, **data)
    assert (error.reason, error.sentence) == (Reason.BAD_DATA, says)


def test_a_folder_of_several_kinds_is_refused_with_a_file_of_each(host):
    put(host, json.dumps([GOOD]), "it/a.json")
    put(host, "instruction,output\na,b\n", "it/b.csv")
    info = host.datasets / "data" / "dataset_info.json"
    info.write_text(json.dumps({"it": {"file_name": "it"}}))
    error = ended(host)
    assert (error.reason, error.where) == (Reason.BAD_DATA, {"file": "it"})
    assert "here are several: a.json (json), b.csv (csv)" in error.sentence


def test_a_file_with_another_hash_is_another_file(host):
    content = json.dumps([GOOD] * 3)
    put(host, content, file_sha1=hashlib.sha1(b"what it was").hexdigest())
    error = ended(host)
    assert (error.reason, error.where) == (Reason.BAD_DATA, {"file": "it.json"})
    assert f"it.json has the SHA-1 {hashlib.sha1(content.encode()).hexdigest()}, but dataset_info.json says" in error.sentence


@pytest.mark.parametrize(
    ("template", "says"),
    [
        (
            "chatml",
            "The tokenizer has 302 tokens, and the model 'tiny' has a vocabulary of 300: they do not match. With resize_vocab",
        ),
        ("tokenizer", "it has none: name one of the templates."),
    ],
)
def test_a_template_that_the_tokenizer_cannot_carry_is_refused(host, template, says):
    error = host.attempt(a_job(data={"template": template})).error
    assert (error.reason, says in error.sentence) == (Reason.BAD_MODEL, True), error.sentence


class Code:
    def __reduce__(self):
        return print, ("this ran",)


def lacking_a_shard(folder):
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {"lm_head.weight": "model-00002-of-00002.safetensors"}}')


def running_code(folder):
    (folder / "model.safetensors").unlink()
    torch.save({"lm_head.weight": Code()}, folder / "pytorch_model.bin", pickle_module=pickle)


def cut_off(folder):
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[:-8])


@pytest.mark.parametrize(
    ("spoil", "file", "says"),
    [
        (lacking_a_shard, "model-00002-of-00002.safetensors", "lacks the weights file"),
        (running_code, "pytorch_model.bin", "it is damaged, or holds more than tensors"),
        (cut_off, "model.safetensors", "cannot be read"),
    ],
)
def test_weights_that_are_not_whole_or_would_run_code_are_refused_by_their_file(host, capsys, spoil, file, says):
    spoil(host.models / "tiny")
    error = host.attempt(a_job()).error
    assert (error.reason, error.where) == (Reason.BAD_MODEL, {"file": file})
    assert says in error.sentence
    assert "this ran" not in capsys.readouterr().out
