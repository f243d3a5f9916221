"""Word perplexity, byte perplexity and bits per byte are those of lm-evaluation-harness 0.4.13, on the same model and texts.

HARNESS is what `harness.py` printed for `asked` below (Python 3.11, torch 2.13.0 on a CPU, transformers 5.23.0). To make it anew,
or to run the comparison with a harness that stands in another environment:

    FINEBITS_TEST_HARNESS=/path/to/python pytest tests/worker/stages/test_harness.py
"""

import importlib.util
import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.worker.stages.attempts import a_pretraining_job

NAMES = ("word_perplexity", "byte_perplexity", "bits_per_byte")
CUTOFF_LEN = 16
# of one window, of several full ones, with a last one of a single token and of many; with white space wherever it may stand
TEXTS = [
    "the quick brown fox",
    "the quick brown fox jumps over the lazy dog and the other animals of the forest there " * 3,
    "  two spaces before,\ttabs\t\tand\n\nlines between, and one behind \n",
    "日本語 and é, naïvely: Ω — what the human asked.",
    "Below is an instruction that describes a task. Write a response.",
    "word",
    *("the other animals of the forest" + " there" * n for n in range(1, 16)),
]
HARNESS = {
    "word_perplexity": 4848078.752644565,
    "byte_perplexity": 16.454900848367807,
    "bits_per_byte": 4.040445428186511,
}


@pytest.fixture
def measured(host, make_llama):
    """The rows of the base, a model whose random weights are large enough that every token of context counts."""
    host.add_model("sharp", make_llama(seed=3, initializer_range=0.15))
    host.add_dataset("whole_texts", [{"text": text} for text in TEXTS], columns={"prompt": "text"})
    job = a_pretraining_job(
        model={"model_name_or_path": "sharp"},
        data={"cutoff_len": CUTOFF_LEN, "val_size": 0},
        measures={"names": ",".join(NAMES), "dataset": "whole_texts"},
        training={"max_steps": 1},
    )
    rows = host.done(job).rows()
    return {name: rows[None, name] for name in NAMES}


def asked(host):
    return {"model": str(host.models / "sharp"), "texts": TEXTS, "max_length": CUTOFF_LEN - 1, "prefix": 1}


def test_the_three_are_what_the_harness_recorded(measured):
    assert {name: row["value"] for name, row in measured.items()} == pytest.approx(HARNESS, rel=1e-6)


@pytest.mark.timeout(600)
def test_the_three_are_what_the_harness_makes_of_the_same_model_and_texts(host, measured, tmp_path):
    python = os.environ.get("FINEBITS_TEST_HARNESS")
    if python is None and importlib.util.find_spec("lm_eval") is None:
        pytest.skip("lm-evaluation-harness is not installed: pip install -e '.[eval]'")
    file = tmp_path / "asked.json"
    file.write_text(json.dumps(asked(host)))
    done = subprocess.run(
        [python or sys.executable, Path(__file__).with_name("harness.py"), file], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    harness = json.loads(done.stdout.splitlines()[-1])
    assert {name: row["value"] for name, row in measured.items()} == pytest.approx(harness, rel=1e-6)


def test_the_three_are_what_their_formulas_say(host, measured):
    """By a loop over windows, in float64, that shares nothing with the worker."""
    folder = host.models / "sharp"
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder).double().eval()
    nats = sum(-log_likelihood(model, tokenizer.encode(text, add_special_tokens=False)) for text in TEXTS)
    words = sum(len(re.split(r"\s+", text)) for text in TEXTS)
    n_bytes = sum(len(text.encode()) for text in TEXTS)
    expected = {
        "word_perplexity": math.exp(nats / words),
        "byte_perplexity": math.exp(nats / n_bytes),
        "bits_per_byte": nats / n_bytes / math.log(2),
    }
    assert {name: row["value"] for name, row in measured.items()} == pytest.approx(expected, rel=1e-6)


def test_the_token_before_a_text_is_told_and_its_error_is_of_documents(measured):
    for row in measured.values():
        assert row["estimator"].endswith("; behind </s>")
        assert row["n_documents"] == len(TEXTS)
        low, high = row["interval"]
        assert low < row["value"] < high


@torch.no_grad()
def log_likelihood(model, ids, prefix=1, length=CUTOFF_LEN - 1):
    """Windows of `length` inputs: the last has all the context that fits, each other no more than the one token before it."""
    total, done = 0.0, 0
    while done < len(ids):
        n = min(length, len(ids) - done)
        before = [prefix] if done == 0 else ids[max(0, done + n - length - 1) : done]
        inputs = torch.tensor([[*before, *ids[done : done + n - 1]]])
        assert inputs.shape[1] <= length
        logp_TV = model(inputs).logits[0, -n:].log_softmax(-1)
        total += float(logp_TV.gather(1, torch.tensor(ids[done : done + n])[:, None]).sum())
        done += n
    return total
