"""The files that the demo ships are what their commands write, and small."""

import json
import subprocess
import sys
from collections import Counter

import pytest
from make_texts import KINDS, RECORDS_A_KIND, as_json, instructions, preferences
from source import SOURCE

MEGABYTE = 1_000_000


@pytest.fixture(scope="module")
def tokenizer(examples):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(examples / "models" / "tiny-llama")


def size(folder):
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def test_every_source_word_is_one_token_and_the_same_one_at_the_start_and_inside(tokenizer):
    for word in SOURCE.words:
        start, inside = tokenizer(word).input_ids, tokenizer(f"the {word}").input_ids
        assert len(start) == 1
        assert inside[1:] == start


def test_a_text_of_the_source_has_as_many_tokens_as_words(tokenizer, examples):
    line = (examples / "data" / "markov.txt").read_text().splitlines()[0]
    assert len(tokenizer(line).input_ids) == len(line.split())


def test_a_tokenized_text_comes_back(tokenizer):
    text = "### Instruction:\nWhat is 7 plus 9?\n\n### Response:\n16, naïve – ¿sí?"
    assert tokenizer.decode(tokenizer(text).input_ids) == f" {text}"


def test_the_tokenizer_has_its_special_tokens_and_no_chat_template(tokenizer):
    assert (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token) == ("<s>", "</s>", "<pad>")
    assert tokenizer.chat_template is None
    assert len(tokenizer) == 1024


def test_markov_is_what_its_command_writes(examples):
    command = [sys.executable, str(examples / "source.py"), "--texts", "400", "--words", "240", "--seed", "1"]
    assert subprocess.run(command, capture_output=True, check=True).stdout == (examples / "data" / "markov.txt").read_bytes()


def test_instructions_and_primer_are_what_their_command_writes(examples, tmp_path):
    subprocess.run([sys.executable, str(examples / "make_texts.py"), str(tmp_path)], check=True)
    for name in ("instructions.json", "preferences.json", "primer.txt"):
        assert (tmp_path / name).read_bytes() == (examples / "data" / name).read_bytes()


def test_instructions_are_distinct_prompts_of_every_kind():
    records = instructions()
    assert len(records) == RECORDS_A_KIND * len(KINDS)
    assert max(Counter((r["instruction"], r["input"]) for r in records).values()) == 1
    assert json.loads(as_json(records)) == records
    assert all(r["instruction"] and r["output"] for r in records)
    assert {bool(r["input"]) for r in records} == {True, False}


def test_preferences_are_the_instructions_with_their_own_answer_and_another():
    pairs = preferences()
    own = {(r["instruction"], r["input"]): r["output"] for r in instructions()}
    assert {(p["instruction"], p["input"]): p["chosen"] for p in pairs} == own
    assert all(p["chosen"] != p["rejected"] for p in pairs)


def test_dataset_info_names_files_that_are_there(examples):
    data = examples / "data"
    entries = json.loads((data / "dataset_info.json").read_text())
    assert list(entries) == ["markov", "primer", "instructions", "preferences"]
    assert {entry["file_name"] for entry in entries.values()} == {path.name for path in data.iterdir()} - {"dataset_info.json"}


def test_the_demo_is_small(examples):
    assert size(examples / "models" / "tiny-llama") <= 3 * MEGABYTE
    assert size(examples / "data") <= MEGABYTE
