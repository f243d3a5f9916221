"""How fast rows are predicted: tokens a second beside a plain `model.generate` loop, and what batches of like lengths gain.

    python benchmarks/predict_speed.py [--rows 96] [--batch 8] [--tokens 48] [--repeats 3] [--device cpu]

A model of random weights and prompts of unlike lengths (log-uniform from 8 to 512 tokens), drawn at temperature 1, each to its
full length, so that all write as many tokens. In turn, in one process:

- plain: `model.generate` with left padding and do_sample, rows in the order given, as a loop of ten lines would;
- given: our `answer`, with each row's own seed and its log-probability and entropy, in the same batches;
- sorted: the same in batches of like lengths, as a step that predicts has them.

The ratios are of medians. Above 1: faster than the plain loop. On a CPU seconds are the process's own (OMP_NUM_THREADS=1): others
at work there do not count.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from service.specs.generating import GeneratingArguments
from worker.stages.predicting import Asked, batches
from worker.writing.answers import answer
from worker.writing.batch import Manner, padded_left

VOCABULARY, PAD = 32_000, 0
SIZES = {"cpu": (512, 6, 8), "cuda": (2048, 16, 16)}  # hidden, layers, heads


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=96)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=48, help="written to each row")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    asked = parser.parse_args()
    model, prompts = a_model(asked.device), some_prompts(asked.rows)
    manner = Manner(GeneratingArguments(temperature=1.0, top_p=1.0, top_k=0, max_new_tokens=asked.tokens), [], PAD)
    in_order = [prompts[start : start + asked.batch] for start in range(0, len(prompts), asked.batch)]
    rows = [Asked(row, prompt, "", "") for row, prompt in enumerate(prompts)]
    alike = [[one.ids for one in batch] for batch in batches(model, rows, manner, asked.batch)]
    ways: dict[str, Callable[[], None]] = {
        "plain": lambda: plain(model, in_order, asked.tokens),
        "given": lambda: ours(model, in_order, manner),
        "sorted": lambda: ours(model, alike, manner),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for repeat in range(asked.repeats + 1):
        for name, way in ways.items():
            took = timed(way, asked.device)
            if repeat:  # the first warms up
                seconds[name].append(took)
    n_tokens = asked.rows * asked.tokens
    median = {name: statistics.median(of_one) for name, of_one in seconds.items()}
    where = torch.cuda.get_device_name() if asked.device == "cuda" else "CPU"
    print(f"{where}: {asked.rows} rows in batches of {asked.batch}, {asked.tokens} tokens each; medians of {asked.repeats}")
    for name in ways:
        print(f"{name:8} {n_tokens / median[name]:10.0f} tokens/s")
    print(f"given / plain:  {median['plain'] / median['given']:6.2f}")
    print(f"sorted / given: {median['given'] / median['sorted']:6.2f}")
    print(f"sorted / plain: {median['plain'] / median['sorted']:6.2f}")


def a_model(device: str) -> LlamaForCausalLM:
    torch.manual_seed(0)
    hidden, layers, heads = SIZES[device]
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=hidden,
        intermediate_size=3 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        max_position_embeddings=2048,
    )
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    return LlamaForCausalLM(config).to(device, dtype).eval()


def some_prompts(n: int) -> list[list[int]]:
    generator = torch.Generator().manual_seed(0)
    lengths = torch.exp(torch.rand(n, generator=generator) * torch.log(torch.tensor(64.0)) + torch.log(torch.tensor(8.0)))
    return [torch.randint(1, VOCABULARY, (int(length),), generator=generator).tolist() for length in lengths]


@torch.no_grad()
def plain(model: LlamaForCausalLM, in_batches: Sequence[list[list[int]]], n_tokens: int) -> None:
    for batch in in_batches:
        ids, mask = padded_left(batch, PAD, model.device)
        model.generate(
            input_ids=ids,
            attention_mask=mask,
            do_sample=True,
            temperature=1.0,
            top_k=0,
            max_new_tokens=n_tokens,
            eos_token_id=None,
            pad_token_id=PAD,
        )


def ours(model: LlamaForCausalLM, in_batches: Sequence[list[list[int]]], manner: Manner) -> None:
    for number, batch in enumerate(in_batches):
        rooms = [manner.generating.max_new_tokens] * len(batch)
        answer(model, batch, rooms, [(0, number, row) for row in range(len(batch))], manner)


def timed(way: Callable[[], None], device: str) -> float:
    if device == "cpu":
        began = time.process_time()
        way()
        return time.process_time() - began
    torch.cuda.synchronize()
    began = time.monotonic()
    way()
    torch.cuda.synchronize()
    return time.monotonic() - began


if __name__ == "__main__":
    main()
