"""evaluate: what a model, or several, answer to a benchmark's questions, and how much that is to be believed."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase, set_seed

from service.specs.benchmark import Benchmark, Subject, open_benchmark
from service.specs.benchmark_files import BenchmarkError
from service.specs.reasons import Reason
from service.specs.roots import OutsideRoot, inside
from worker.evaluation import scores
from worker.evaluation.answers import Answers, answer
from worker.evaluation.prompts import Asking, Prompt, shots_of
from worker.evaluation.results import leave, question_lines, results_of
from worker.evaluation.scores import Number
from worker.failures import JobFailure
from worker.models.adapters import Model
from worker.models.loading import load_config, load_tokenizer
from worker.run import Run
from worker.stages.asking_the_harness import ask_the_harness
from worker.stages.evaluated import Evaluated, evaluated_models
from worker.stages.step import StepWork
from worker.stages.training import add_template_tokens


def evaluate(work: StepWork, run: Run) -> tuple[Path, dict[str, Any]]:
    """Asks the base, and then each model beside it, subject by subject; what an earlier attempt asked is not asked again."""
    step = work.step
    set_seed(step.training.seed)
    tokenizer = load_tokenizer(work.model, step.model.split_special_tokens)
    add_template_tokens(run, work, tokenizer)
    models = list(evaluated_models(work, tokenizer))
    if step.evaluation.harness_task is not None:
        return work.folder, ask_the_harness(work, run, tokenizer, models, _most_tokens(work))
    benchmark = _benchmark(work)
    asking = Asking(tokenizer, step.data.template, step.evaluation.lang, _most_tokens(work))
    _tell_questions(run, work, benchmark, len(models))
    answered: dict[Number, dict[str, Answers]] = {}
    for place, one in enumerate(models):
        run.check()
        run.progress(
            phase="evaluating", global_step=place * len(benchmark.subjects), max_steps=len(models) * len(benchmark.subjects)
        )
        answered[one.number] = _ask(work, run, one, benchmark, asking, tokenizer, place)
        _tell(work, run, benchmark, answered, one)
    _tell_lack_of_examples(run, work, benchmark, answered)
    _leave(work, run, benchmark, answered, models)
    n_questions = sum(len(benchmark.questions(subject)) for subject in benchmark.subjects)
    return work.folder, {"questions": n_questions, "models": len(models)}


def _benchmark(work: StepWork) -> Benchmark:
    asked = work.step.evaluation
    try:
        folder = inside(work.places.datasets_root, f"{asked.task_dir}/{asked.task}")
        if not folder.is_dir():
            raise JobFailure(Reason.MISSING_DATA, f"There is no task {asked.task!r} in {asked.task_dir!r}.")
        return open_benchmark(folder, asked.split, with_examples=asked.n_shot > 0)
    except BenchmarkError as error:
        raise JobFailure(Reason.BAD_ROW, str(error), **error.where) from None
    except OutsideRoot as error:
        raise JobFailure(Reason.MISSING_DATA, str(error)) from None
    except OSError as error:
        raise JobFailure(Reason.MISSING_DATA, f"The task {asked.task!r} cannot be read: {error.strerror}.") from None


def _most_tokens(work: StepWork) -> int:
    """cutoff_len, or what the base's positions hold where they are not stretched."""
    step = work.step
    start = work.job_start if step.measures.base == "job" else work.start
    positions = getattr(load_config(start.whole).get_text_config(), "max_position_embeddings", None)
    if step.model.rope_scaling is not None or not isinstance(positions, int):
        return step.data.cutoff_len
    return min(step.data.cutoff_len, positions)


def _ask(
    work: StepWork,
    run: Run,
    one: Evaluated,
    benchmark: Benchmark,
    asking: Asking,
    tokenizer: PreTrainedTokenizerBase,
    place: int,
) -> dict[str, Answers]:
    """One model's answers by subject. It is loaded where something is left to ask."""
    answers = _asked_before(work, one.number, benchmark)
    model: Model | None = None
    for count, subject in enumerate(benchmark.subjects, 1):
        if subject.key not in answers:
            run.check()
            model = one.load() if model is None else model
            questions, prompts = benchmark.questions(subject), _prompts(work, benchmark, subject, asking)
            batch_size = work.step.evaluation.batch_size
            answers[subject.key] = answer(model, questions, prompts, asking, len(tokenizer), batch_size)
            _keep(work, run, one.number, benchmark, subject, answers[subject.key])
        run.progress(global_step=place * len(benchmark.subjects) + count)
    return answers


def _prompts(work: StepWork, benchmark: Benchmark, subject: Subject, asking: Asking) -> list[Prompt]:
    asked = work.step.evaluation
    examples = benchmark.examples(subject) if asked.n_shot else ()
    return [
        asking.prompt(subject, question, shots_of(examples, asked.n_shot, asked.seed, subject.key, question.row))
        for question in benchmark.questions(subject)
    ]


def _keep(work: StepWork, run: Run, number: Number, benchmark: Benchmark, subject: Subject, answers: Answers) -> None:
    """For an attempt that goes on, under a split of the subject's own."""
    kept = answers.to_json() | {"of": _fingerprint(benchmark, subject)}
    run.measurement(work.name, number, _split(benchmark, subject), kept, [])


def _split(benchmark: Benchmark, subject: Subject) -> str:
    return f"{benchmark.split}:{subject.key}"


def _fingerprint(benchmark: Benchmark, subject: Subject) -> str:
    """Of the questions: answers to others are no answers to these."""
    return hashlib.sha256(repr(benchmark.questions(subject)).encode()).hexdigest()[:16]


def _asked_before(work: StepWork, number: Number, benchmark: Benchmark) -> dict[str, Answers]:
    kept = {row["split"]: row["documents"] for row in work.measured if row["global_step"] == number}
    return {
        subject.key: Answers.from_json(documents)
        for subject in benchmark.subjects
        if (documents := kept.get(_split(benchmark, subject))) is not None and documents["of"] == _fingerprint(benchmark, subject)
    }


def _tell(
    work: StepWork, run: Run, benchmark: Benchmark, answered: Mapping[Number, Mapping[str, Answers]], one: Evaluated
) -> None:
    """The measures of this model; another best changes the others' distance from it, so theirs are told again."""
    together = {number: scores.answered(benchmark, by_subject) for number, by_subject in answered.items()}
    rows = scores.rows(benchmark, together)
    for number in together:
        own = [row for row in rows if row["global_step"] == number]
        run.measurement(work.name, number, benchmark.split, {}, own)
    (accuracy,) = [row for row in rows if row["global_step"] == one.number and row["measure"] == "accuracy"]
    run.event("measured", _sentence(one.name, accuracy), step=work.name, global_step=one.number, split=benchmark.split, of=one.of)


def _sentence(name: str, accuracy: dict[str, Any]) -> str:
    if accuracy["value"] is None:
        return f"{name}: {accuracy['interval_reason']}"
    low, high = accuracy["interval"]
    right = f"{100 * accuracy['value']:.1f} % of {accuracy['n_documents']} questions are answered rightly"
    versus = accuracy["versus_base"]
    beside = "" if versus is None else f"; {100 * versus['value']:+.1f} points from the base, p = {versus['p_value']:.2g}"
    return f"{name}: {right} ({100 * low:.1f} to {100 * high:.1f} %){beside}."


def _tell_questions(run: Run, work: StepWork, benchmark: Benchmark, n_models: int) -> None:
    asked = work.step.evaluation
    n_questions = sum(len(benchmark.questions(subject)) for subject in benchmark.subjects)
    n_beside = n_models - 1
    beside = f" and {n_beside} model{'s' * (n_beside > 1)} beside it" if n_beside else ""
    of = f"{n_questions} questions of {len(benchmark.subjects)} subjects ({asked.task}, {benchmark.split})"
    run.event(
        "data_loaded",
        f"{work.name}: {of} are asked of the base{beside}, behind up to {asked.n_shot} examples each.",
        step=work.name,
        questions=n_questions,
        subjects=len(benchmark.subjects),
        measured_split=benchmark.split,
    )
    few = sorted(
        subject.key for subject in benchmark.subjects if asked.n_shot and len(benchmark.examples(subject)) < asked.n_shot
    )
    if few:
        more = f" and {len(few) - 3} more" if len(few) > 3 else ""
        sentence = (
            f"n_shot is {asked.n_shot}, and there are fewer examples of {', '.join(few[:3])}{more}: all there are are shown."
        )
        run.event("notice", f"{work.name}: {sentence}", step=work.name)


def _tell_lack_of_examples(
    run: Run, work: StepWork, benchmark: Benchmark, answered: Mapping[Number, Mapping[str, Answers]]
) -> None:
    """The prompts are the same of all models."""
    by_subject, asked = next(iter(answered.values())), work.step.evaluation
    dropped = n_cut = 0
    for subject in benchmark.subjects:
        n_wanted = min(asked.n_shot, len(benchmark.examples(subject))) if asked.n_shot else 0
        dropped += sum(shown < n_wanted for shown in by_subject[subject.key].n_shown)
        n_cut += by_subject[subject.key].n_cut
    if dropped or n_cut:
        text = f"{dropped} prompts have fewer examples than there are to show, and {n_cut} lack their beginning"
        sentence = f"{work.name}: {text}, to fit {_most_tokens(work)} tokens (data.cutoff_len, and the model's positions)."
        run.event("notice", sentence, step=work.name, fewer_examples=dropped, cut=n_cut)


def _leave(
    work: StepWork, run: Run, benchmark: Benchmark, answered: Mapping[Number, Mapping[str, Answers]], models: list[Evaluated]
) -> None:
    together = {number: scores.answered(benchmark, by_subject) for number, by_subject in answered.items()}
    rows, asked = scores.rows(benchmark, together), work.step.evaluation
    told = {one.number: {"model": one.called, "name": one.name, "of": one.of} for one in models}
    how = {
        "task": asked.task,
        "n_shot": asked.n_shot,
        "seed": asked.seed,
        "lang": asked.lang,
        "template": work.step.data.template,
    }
    document = how | results_of(benchmark, together, rows, told)
    under = asked.save_dir or work.name
    leave(run, work.folder, "results.json", json.dumps(document, ensure_ascii=False, indent=1), under)
    leave(run, work.folder, "questions.jsonl", question_lines(benchmark, answered), under)
