"""Every choice is that of lm-evaluation-harness 0.4.13, on the same model and prompts, question by question.

CHOICES is what `harness.py` found likeliest (Python 3.11, torch 2.13.0 on a CPU). To make it anew, or to run the comparison with
a harness that stands in another environment:

    FINEBITS_TEST_HARNESS=/path/to/python pytest tests/worker/evaluation/test_same_choices.py
"""

import importlib.util
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from service.specs.benchmark import LETTERS, open_benchmark
from tests.worker.stages.benchmarks import add_task, an_evaluation, lines
from worker.evaluation.prompts import WORDINGS, Asking, shots_of

N_SHOT = 2
CHOICES = {
    "en": "BCBBBBAACCCDDDBACDADBDAADBAADCBBDDCCACCDD",
    "zh": "CDDCDABDADDDDDCDDDCDCCADCADADADDADCCADCDA",
}


@pytest.fixture
def quiz(host, make_llama):
    """Asked of a model whose random weights are large enough that it does not always choose one letter."""
    host.add_model("sharp", make_llama(seed=3, initializer_range=0.3, max_position_embeddings=1024))
    return add_task(host.datasets, questions=20)


def our_answers(host, lang):
    evaluation = {"n_shot": N_SHOT, "lang": lang, "batch_size": 7}
    return lines(host, host.done(an_evaluation(model={"model_name_or_path": "sharp"}, evaluation=evaluation)))


def written(host, quiz, lang):
    """The prompts as text."""
    tokenizer = AutoTokenizer.from_pretrained(host.models / "sharp")
    asking, benchmark = Asking(tokenizer, None, lang, 1024), open_benchmark(quiz, None, True)
    return [
        asking.text(subject, question, shots_of(benchmark.examples(subject), N_SHOT, 42, subject.key, question.row))
        for subject in benchmark.subjects
        for question in benchmark.questions(subject)
    ]


@pytest.mark.parametrize("lang", WORDINGS)
def test_the_choices_are_those_that_the_harness_recorded(host, quiz, lang):
    choices = "".join(line["choice"] for line in our_answers(host, lang))
    assert choices == CHOICES[lang]
    assert set(choices) == set(LETTERS)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("lang", WORDINGS)
def test_the_choices_are_those_of_the_harness(host, quiz, lang, tmp_path):
    python = os.environ.get("FINEBITS_TEST_HARNESS")
    if python is None and importlib.util.find_spec("lm_eval") is None:
        pytest.skip("lm-evaluation-harness is not installed: pip install -e '.[eval]'")
    file = tmp_path / "asked.json"
    asked = {"model": str(host.models / "sharp"), "delimiter": WORDINGS[lang].gap, "prompts": written(host, quiz, lang)}
    file.write_text(json.dumps(asked))
    harness = Path(__file__).with_name("harness.py")
    done = subprocess.run([python or sys.executable, harness, file], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    nats_QL = json.loads(done.stdout.splitlines()[-1])
    ours = our_answers(host, lang)
    assert len(ours) == len(nats_QL) == 41
    for line, nats in zip(ours, nats_QL, strict=True):
        assert line["choice"] == LETTERS[max(range(4), key=nats.__getitem__)]
        total = math.log(sum(map(math.exp, nats)))
        assert list(line["lg_p"].values()) == pytest.approx([(one - total) / math.log(2) for one in nats], abs=1e-4)
