import itertools
import math

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from service.specs.benchmark import open_benchmark
from tests.worker.stages import benchmarks
from tests.worker.stages.attempts import a_job
from tests.worker.stages.benchmarks import LETTERS, add_task, an_evaluation, lines, results
from worker.evaluation import answers, prompts
from worker.evaluation.prompts import Asking, shots_of
from worker.failures import JobFailure
from worker.information.significance import clopper_pearson, mcnemar
from worker.models import assembly
from worker.run import Stopped
from worker.stages import evaluating


@pytest.fixture
def quiz(host):
    return add_task(host.datasets)


def choices(host, attempt, model="base"):
    return [line["choice"] for line in lines(host, attempt) if line["model"] == model]


def row_of(attempt, measure, number=None):
    return attempt.rows()[number, measure]


# -- what is asked ---------------------------------------------------------------------------------------------------------


def test_each_answer_is_the_likeliest_letter_behind_the_prompt(host, quiz):
    """By a loop over questions, without batches, in float64, from whole prompts as text."""
    attempt = host.done(an_evaluation(evaluation={"n_shot": 2, "batch_size": 3}))
    tokenizer = AutoTokenizer.from_pretrained(host.models / "tiny")
    model = AutoModelForCausalLM.from_pretrained(host.models / "tiny").double().eval()
    told = iter(lines(host, attempt))
    benchmark = open_benchmark(quiz, "test", True)
    for subject in benchmark.subjects:
        for question in benchmark.questions(subject):
            shots = shots_of(benchmark.examples(subject), 2, 42, subject.key, question.row)
            text = f"The following are multiple choice questions (with answers) about {subject.name}.\n\n"
            for shot in [*shots, question]:
                a, b, c, d = shot.choices
                text += f"{shot.text}\nA. {a}\nB. {b}\nC. {c}\nD. {d}\nAnswer:"
                text += "" if shot is question else f" {shot.answer}\n\n"
            ids = [tokenizer.encode(f"{text} {letter}", add_special_tokens=False) for letter in LETTERS]
            assert {tuple(one[:-1]) for one in ids} == {tuple(ids[0][:-1])}
            with torch.no_grad():
                lg_p = model(torch.tensor([ids[0][:-1]])).logits[0, -1, [one[-1] for one in ids]].log_softmax(0) / math.log(2)
            line = next(told)
            assert (line["subject"], line["row"], line["answer"], line["examples"]) == (
                subject.key,
                question.row,
                question.answer,
                2,
            )
            assert list(line["lg_p"].values()) == pytest.approx(lg_p.tolist(), abs=1e-4)
            assert line["choice"] == LETTERS[int(lg_p.argmax())]
    assert next(told, None) is None


def test_a_letter_of_several_tokens_is_as_likely_as_they_are_together(host, quiz, make_llama, tmp_path):
    """Where " A" is a token and " B" is two, what is compared are whole answers."""
    from tokenizers import Tokenizer

    folder = host.models / "tiny"
    backend = Tokenizer.from_file(str(folder / "tokenizer.json"))
    backend.add_tokens([" A"])
    backend.save(str(folder / "tokenizer.json"))
    make_llama(vocab_size=301).save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert [len(tokenizer.encode(f": {letter}")) for letter in "AB"] == [2, 3]
    (first, *_) = lines(host, host.done(an_evaluation(evaluation={"n_shot": 0})))
    benchmark = open_benchmark(quiz, "test", True)
    asking = Asking(tokenizer, None, "en", 10**6)
    assert [len(letter) for letter in asking.letters] == [1, 2, 2, 2]
    model = AutoModelForCausalLM.from_pretrained(folder).double().eval()
    prompt = asking.prompt(benchmark.subjects[0], benchmark.questions(benchmark.subjects[0])[0], []).input_ids
    logs = []
    for letter in asking.letters:
        with torch.no_grad():
            logp_TV = model(torch.tensor([[*prompt, *letter]])).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
        logs.append(float(logp_TV.gather(1, torch.tensor(letter)[:, None]).sum()))
    expected = torch.tensor(logs).log_softmax(0) / math.log(2)
    assert list(first["lg_p"].values()) == pytest.approx(expected.tolist(), abs=1e-4)


def test_the_task_and_its_folder_say_what_is_asked(host, quiz):
    """evaluation.task and task_dir."""
    add_task(host.datasets, "other", questions=2)
    add_task(host.datasets, "quiz", task_dir="elsewhere", questions=3)
    asked = [
        host.done(an_evaluation(evaluation=evaluation)).of("step")[0]["summary"]["questions"]
        for evaluation in ({}, {"task": "other"}, {"task_dir": "elsewhere"})
    ]
    assert asked == [13, 5, 7]


def test_split_says_whose_questions_are_asked(host, quiz):
    attempt = host.done(an_evaluation(evaluation={"split": "validation"}))
    assert len(lines(host, attempt)) == 4
    assert {message["split"].partition(":")[0] for message in attempt.of("measurement")} == {"validation"}


@pytest.fixture
def texts(monkeypatch):
    """Every prompt that is asked, as text."""
    seen = []
    original = Asking.text
    monkeypatch.setattr(
        Asking, "text", lambda self, subject, question, shots: seen.append(original(self, subject, question, shots)) or seen[-1]
    )
    return seen


def test_lang_and_n_shot_say_how_a_question_reads(host, quiz, texts):
    host.done(an_evaluation(evaluation={"n_shot": 2, "lang": "zh"}))
    assert "以下是中国关于animals考试的单项选择题，请选出其中的正确答案。\n\n" in texts[-1] or "关于words" in texts[-1]
    assert texts[-1].count("\n答案：") == 3
    assert texts[-1].endswith("\n答案：")
    texts.clear()
    host.done(an_evaluation(evaluation={"n_shot": 0}))
    assert texts[-1].count("\nAnswer:") == 1


def test_the_seed_draws_the_examples_and_repeats_them(host, quiz, texts):
    told = {}
    for seed in (1, 1, 2):
        texts.clear()
        host.done(an_evaluation(evaluation={"seed": seed, "n_shot": 2}))
        told.setdefault(seed, []).append(list(texts))
    assert told[1][0] == told[1][1] != told[2][0]


def test_examples_of_a_question_do_not_depend_on_the_others(host):
    examples = list(range(5))
    drawn = [shots_of(examples, 2, 42, "animals", row) for row in range(20)]
    assert all(len(set(shots)) == 2 for shots in drawn)
    assert len(set(map(tuple, drawn))) > 5
    assert shots_of(examples, 9, 42, "animals", 1) != examples
    assert sorted(shots_of(examples, 9, 42, "animals", 1)) == examples


def test_no_more_questions_go_through_the_model_at_once_than_batch_size(host, quiz, monkeypatch):
    batches = []
    original = answers.final_hidden_states
    monkeypatch.setattr(
        answers,
        "final_hidden_states",
        lambda model, documents, batch_size: batches.append(batch_size) or original(model, documents, batch_size),
    )
    told = [choices(host, host.done(an_evaluation(evaluation={"batch_size": size}))) for size in (1, 5)]
    assert set(batches) == {1, 5}
    assert told[0] == told[1]


def test_a_template_makes_each_example_a_turn(host, quiz, make_llama, monkeypatch):
    make_llama(max_position_embeddings=1024).save_pretrained(host.models / "tiny")
    seen = []
    original = answers.letter_bits
    monkeypatch.setattr(answers, "letter_bits", lambda model, ids, *rest: seen.extend(ids) or original(model, ids, *rest))
    host.done(an_evaluation(data={"template": "alpaca"}, evaluation={"n_shot": 2}))
    tokenizer = AutoTokenizer.from_pretrained(host.models / "tiny")
    text = tokenizer.decode(seen[0])
    assert text.count("### Instruction:\n") == 3
    assert text.count("The following are multiple choice questions (with answers) about animals.") == 1
    assert text.endswith("\nAnswer:\n\n### Response:\n")


def test_examples_that_do_not_fit_are_left_out_and_counted(host, quiz):
    whole = host.done(an_evaluation(evaluation={"n_shot": 3}, data={"cutoff_len": 4096}, model=POSITIONS))
    assert {line["examples"] for line in lines(host, whole)} == {2}, "The model's positions are 256."
    short = host.done(an_evaluation(evaluation={"n_shot": 3}, data={"cutoff_len": 120}))
    told = [line["examples"] for line in lines(host, short)]
    assert set(told) == {0}
    (event,) = [event for event in short.events("notice") if "fewer_examples" in event["data"]]
    assert (event["data"]["fewer_examples"], event["data"]["cut"]) == (13, 0)
    cut = host.done(an_evaluation(data={"cutoff_len": 40}))
    (event,) = [event for event in cut.events("notice") if "cut" in event["data"]]
    assert event["data"]["cut"] == 13
    assert "40 tokens" in event["text"]


POSITIONS = {"model_name_or_path": "tiny"}


def test_fewer_examples_than_n_shot_are_told(host, quiz):
    attempt = host.done(an_evaluation(evaluation={"n_shot": 5, "split": "validation"}, data={"cutoff_len": 4096}))
    assert any("n_shot is 5" in notice for notice in attempt.notices())


# -- what is told ------------------------------------------------------------------------------------------------------------


def test_accuracies_are_shares_of_questions_with_exact_intervals(host, quiz):
    attempt = host.done(an_evaluation())
    told = lines(host, attempt)
    for name, of in (
        ("accuracy", told),
        ("accuracy:STEM", [line for line in told if line["subject"] == "animals"]),
        ("accuracy:Humanities", [line for line in told if line["subject"] == "words"]),
        ("accuracy:words", [line for line in told if line["subject"] == "words"]),
    ):
        right = sum(line["choice"] == line["answer"] for line in of)
        row = row_of(attempt, name)
        assert (row["value"], row["n_documents"]) == (pytest.approx(right / len(of)), len(of))
        assert row["interval"] == pytest.approx(list(clopper_pearson(right, len(of))))
    assert (None, "accuracy:Other") not in attempt.rows()
    found = results(host, attempt)
    assert found["models"][0]["measures"]["accuracy"]["value"] == row_of(attempt, "accuracy")["value"]
    assert np.sum(found["models"][0]["confusion"]) == 13
    for right, chosen in itertools.product(range(4), repeat=2):
        n = sum((line["answer"], line["choice"]) == (LETTERS[right], LETTERS[chosen]) for line in told)
        assert found["models"][0]["confusion"][right][chosen] == n


def test_calibration_and_the_channel_of_the_answers_are_told(host, quiz):
    attempt = host.done(an_evaluation())
    told = lines(host, attempt)
    bits = np.mean([-line["lg_p"][line["answer"]] for line in told])
    brier = np.mean([sum((2 ** line["lg_p"][x] - (x == line["answer"])) ** 2 for x in LETTERS) for line in told])
    assert row_of(attempt, "answer_cross_entropy")["value"] == pytest.approx(bits)
    assert row_of(attempt, "answer_brier_score")["value"] == pytest.approx(brier)
    assert 0 <= row_of(attempt, "expected_calibration_error")["value"] <= 1
    assert {"mutual_information", "equivocation", "fano_bound", "channel_capacity"} <= {name for _, name in attempt.rows()}
    assert row_of(attempt, "equivocation")["value"] <= 2 + 1e-9


def test_checkpoints_are_compared_question_by_question(host, quiz):
    document = a_job(training={"learning_rate": 0.3})
    job_id = host.remember(document, host.done(document))
    attempt = host.done(an_evaluation(f"{job_id}/sft/2", f"{job_id}/sft"))
    base, _, last = ([line for line in lines(host, attempt) if line["model"] == model] for model in ("base", 1, 2))
    assert [line["choice"] for line in base] != [line["choice"] for line in last]
    here = sum(a["choice"] == a["answer"] != b["choice"] for a, b in zip(last, base, strict=True))
    there = sum(b["choice"] == b["answer"] != a["choice"] for a, b in zip(last, base, strict=True))
    versus = row_of(attempt, "accuracy", 2)["versus_base"]
    assert (versus["only_here"], versus["only_there"]) == (here, there)
    assert versus["value"] == pytest.approx((here - there) / 13)
    assert versus["p_value"] == mcnemar(here, there)
    assert versus["interval"] is not None
    pairs = results(host, attempt)["comparisons"]
    assert [(pair["model"], pair["less"]) for pair in pairs] == [(1, "base"), (2, "base"), (2, 1)]
    assert pairs[1]["difference"] == pytest.approx(versus["value"])
    assert (pairs[1]["only_here"], pairs[1]["only_there"], pairs[1]["p_value"]) == (here, there, versus["p_value"])
    ofs = [event["data"]["of"] for event in attempt.events("measured")]
    assert ofs == [{"model": "tiny"}, *({"job_id": job_id, "step": "sft", "checkpoint": at} for at in (2, 4))]
    assert row_of(attempt, "le_cam_deficiency", 2)["value"] >= 0


def test_a_pipeline_evaluates_what_it_trained_beside_its_base(host, quiz):
    steps = [
        {"name": "sft"},
        {"name": "asked", "do": "evaluate", "model": {"model_name_or_path": "@sft"}, "evaluation": {"task": "quiz"}},
    ]
    attempt = host.done(a_job() | {"steps": steps})
    assert [event["data"]["of"] for event in attempt.events("measured") if event["data"]["step"] == "asked"] == [
        {"model": "tiny"},
        {"job_id": "job-1", "step": "sft", "checkpoint": 4},
    ]
    assert results(host, attempt, "asked")["models"][1]["name"] == "@sft"


def test_save_dir_names_the_folder_of_the_results(host, quiz):
    attempt = host.done(an_evaluation(evaluation={"save_dir": "mine"}))
    assert {message["name"] for message in attempt.of("artifact")} == {"mine/results.json", "mine/questions.jsonl"}


def test_a_model_that_diverged_has_no_accuracy_and_says_so(host, quiz, make_llama):
    model = make_llama()
    torch.nn.init.constant_(model.model.norm.weight, math.nan)
    host.add_model("diverged", model)
    attempt = host.done(an_evaluation(model={"model_name_or_path": "diverged"}))
    row = row_of(attempt, "accuracy")
    assert (row["value"], row["interval"]) == (None, None)
    assert "diverged" in row["interval_reason"]
    assert {line["choice"] for line in lines(host, attempt)} == {None}
    assert "diverged" in attempt.events("measured")[0]["text"]


# -- going on ----------------------------------------------------------------------------------------------------------------


def test_what_was_asked_is_not_asked_again(host, quiz, monkeypatch):
    document = a_job()
    job_id = host.remember(document, host.done(document))
    asked = an_evaluation(f"{job_id}/sft")

    first = host.attempt(asked, when=_stop_after("test:animals", 1))
    assert isinstance(first.error, Stopped)
    loaded, told = [], []
    frozen, ask = assembly.frozen, evaluating.answer
    monkeypatch.setattr(
        "worker.stages.measuring_later.frozen",
        lambda start, *rest: loaded.append(start.continued and start.continued.name) or frozen(start, *rest),
    )
    monkeypatch.setattr(
        evaluating, "answer", lambda model, questions, *rest: told.append(len(questions)) or ask(model, questions, *rest)
    )
    second = host.done(asked, [first])
    assert loaded == [f"{job_id}/sft"], "All of the base's answers were kept."
    assert told == [6], "Only the words were left to ask."
    whole = host.done(asked)
    assert results(host, second) == results(host, whole)
    assert lines(host, second) == lines(host, whole)


def test_questions_that_changed_since_are_asked_anew(host, quiz):
    first = host.attempt(an_evaluation(), when=_stop_after("test:animals"))
    assert isinstance(first.error, Stopped)
    benchmarks.write(quiz, "animals", "test", benchmarks.rows("animals", "test", 7)[::-1])
    second = host.done(an_evaluation(), [first])
    assert lines(host, second) == lines(host, host.done(an_evaluation()))


def _stop_after(split, number=None):
    def stop(message, run):
        if message["message"] == "measurement" and (message["global_step"], message["split"]) == (number, split):
            run.wish = "stop"

    return stop


# -- what cannot be asked ----------------------------------------------------------------------------------------------------


def test_a_row_that_is_no_question_fails_the_job_with_its_place(host, quiz):
    benchmarks.write(quiz, "words", "test", [["what", "a", "b", "c", "d", "E"]])
    with pytest.raises(JobFailure, match="the answer 'E'") as failure:
        host.done(an_evaluation())
    assert failure.value.reason == "bad_row"
    assert failure.value.where == {"file": "test/words_test.csv", "row": 1, "column": "answer"}


def test_a_task_that_is_gone_fails_the_job(host):
    with pytest.raises(JobFailure, match="no task 'quiz'") as failure:
        host.done(an_evaluation())
    assert failure.value.reason == "missing_data"


def test_letters_that_are_one_token_cannot_be_told_apart(host, quiz, tokenizer):
    class Blind:
        """A tokenizer to which all letters are unknown."""

        def __call__(self, text, **options):
            found = tokenizer(text, **options)
            return {
                "input_ids": [
                    0 if token in tokenizer.convert_tokens_to_ids(list("ABCD")) else token for token in found["input_ids"]
                ]
            }

    with pytest.raises(JobFailure, match="cannot be told apart") as failure:
        prompts.Asking(Blind(), None, "en", 100)
    assert failure.value.reason == "bad_model"
