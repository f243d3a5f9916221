"""How long an evaluation takes beside lm-evaluation-harness on the same model and questions, and whether it chooses the same.

    python benchmarks/evaluation_speed.py [--rounds 3 --threads 1 --batch-size 4]

The questions are those of examples/evaluation/primer, each asked with two draws of four examples; the model is a Llama of random
weights, in fp32 on the CPU. Both sides begin with questions as text and a model in memory, alternate within each round, and are
reported by their medians: ours over the harness's. The harness is an extra: pip install -e '.[eval]'.
"""

import argparse
import importlib.util
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase

from service.specs.benchmark import Benchmark, Question, Subject, open_benchmark
from worker.evaluation.answers import answer
from worker.evaluation.prompts import Asking, shots_of

os.environ.setdefault("TQDM_DISABLE", "1")

EXAMPLES = Path(__file__).parents[1] / "examples"
POSITIONS, SHOTS, DRAWS = 2048, 4, 2

Asked = tuple[Subject, Question, list[Question]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch-size", type=int, default=4)
    arguments = parser.parse_args()
    if importlib.util.find_spec("lm_eval") is None:
        print("lm-evaluation-harness is not installed, so there is nothing to compare with: pip install -e '.[eval]'")
        return
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as folder:
        compare(Path(folder), arguments.rounds, arguments.batch_size)


def compare(folder: Path, rounds: int, batch_size: int) -> None:
    tokenizer = letters_as_tokens()
    model = a_model(len(tokenizer))
    asked = questions()
    ours = one_side(tokenizer, model, asked, batch_size)
    harness = other_side(folder, tokenizer, model, asked, batch_size)
    seconds: dict[str, list[float]] = {"ours": [], "harness": []}
    choices = {"ours": ours(), "harness": harness()}  # and everything is warm
    for _ in range(rounds):
        for name, side in (("ours", ours), ("harness", harness)):
            started = time.perf_counter()
            side()
            seconds[name].append(time.perf_counter() - started)
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    same = sum(a == b for a, b in zip(choices["ours"], choices["harness"], strict=True))
    print(f"{len(asked)} questions, batches of {batch_size}, {torch.get_num_threads()} threads; medians of {rounds} rounds")
    print(f"ours {medians['ours']:.2f} s, lm-evaluation-harness {medians['harness']:.2f} s")
    print(f"ratio {medians['ours'] / medians['harness']:.2f}; the same choice on {same} of {len(asked)} questions")


def letters_as_tokens() -> PreTrainedTokenizerBase:
    """The example's tokenizer, with a token for each answer, as those of large models have."""
    tokenizer = AutoTokenizer.from_pretrained(EXAMPLES / "models" / "tiny-llama")
    tokenizer.add_tokens([f" {letter}" for letter in "ABCD"])
    return tokenizer


def a_model(vocabulary: int) -> LlamaForCausalLM:
    torch.manual_seed(0)
    shape = {"hidden_size": 256, "intermediate_size": 688, "num_hidden_layers": 4, "num_attention_heads": 8}
    config = LlamaConfig(vocab_size=vocabulary, max_position_embeddings=POSITIONS, initializer_range=0.1, **shape)
    return LlamaForCausalLM(config).eval()


def questions() -> list[Asked]:
    benchmark: Benchmark = open_benchmark(EXAMPLES / "evaluation" / "primer", "test", with_examples=True)
    return [
        (subject, question, shots_of(benchmark.examples(subject), SHOTS, draw, subject.key, question.row))
        for draw in range(DRAWS)
        for subject in benchmark.subjects
        for question in benchmark.questions(subject)
    ]


def one_side(
    tokenizer: PreTrainedTokenizerBase, model: LlamaForCausalLM, asked: list[Asked], batch_size: int
) -> Callable[[], list[int]]:
    def ask() -> list[int]:
        asking = Asking(tokenizer, None, "en", POSITIONS)
        prompts = [asking.prompt(*one) for one in asked]
        answers = answer(model, [question for _, question, _ in asked], prompts, asking, len(tokenizer), batch_size)
        return answers.choice_Q.tolist()

    return ask


def other_side(
    folder: Path, tokenizer: PreTrainedTokenizerBase, model: LlamaForCausalLM, asked: list[Asked], batch_size: int
) -> Callable[[], list[int]]:
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    asking = Asking(tokenizer, None, "en", POSITIONS)
    rows = ({"prompt": asking.text(*one), "letters": list("ABCD"), "right": 0} for one in asked)
    file = folder / "prompts.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    task = {
        "task": "prompts",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(file)}, "cache_dir": str(folder)},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "prompt",
        "doc_to_choice": "letters",
        "doc_to_target": "right",
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    }
    harness = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=batch_size, max_length=POSITIONS)
    manager = TaskManager(include_defaults=False)  # made once: looking through its thousands of tasks is no part of asking

    def ask() -> list[int]:
        told = simple_evaluate(model=harness, tasks=[task], task_manager=manager, bootstrap_iters=0, verbosity="ERROR")
        samples = sorted(told["samples"]["prompts"], key=lambda sample: sample["doc_id"])
        nats_QL = [[float(response[0]) for response in sample["filtered_resps"]] for sample in samples]
        return [max(range(4), key=nats_L.__getitem__) for nats_L in nats_QL]

    return ask


if __name__ == "__main__":
    main()
