"""How much faster two ranks train than one process with the same rows in each update: tokens a second, and their ratio.

    python benchmarks/ranks.py [--updates 20 --rounds 3 --ranks 2 --finetuning full]

On the CPU, a thread for each rank, by gloo; so no more ranks than cores. A Llama of some 10 million parameters reads blocks of
256 tokens; an update is of 8 blocks, of which each rank has its part. The two take turns, and medians are printed. Each is the
training process itself, launcher and all. What is told beside is how far their losses differ.
"""

import argparse
import json
import multiprocessing
import os
import random
import shutil
import statistics
import tempfile
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from service.specs.read import read_job
from worker import child
from worker.work import Work

TOKENIZER = Path(__file__).parent.parent / "examples" / "models" / "tiny-llama"
BLOCKS, LENGTH = 8, 256

_fork = multiprocessing.get_context("fork")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--updates", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--finetuning", choices=["full", "lora"], default="full")
    asked = parser.parse_args()
    speeds: dict[int, list[float]] = {1: [], asked.ranks: []}
    losses: dict[int, float] = {}
    with tempfile.TemporaryDirectory(prefix="fb-bench-") as folder:
        home = Path(folder)
        make(home)
        for number in range(asked.rounds):
            for n_ranks in speeds:
                work = work_of(home, n_ranks, asked.updates, asked.finetuning, number)
                speed, losses[n_ranks] = trained(work)
                speeds[n_ranks].append(speed)
    alone, together = (statistics.median(speeds[n_ranks]) for n_ranks in (1, asked.ranks))
    print(f"tokens/s of one process:    {alone:8.0f}  (median of {asked.rounds}: {told(speeds[1])})")
    print(f"tokens/s of {asked.ranks} ranks:        {together:8.0f}  (median of {asked.rounds}: {told(speeds[asked.ranks])})")
    print(f"{asked.ranks} ranks / one process:      {together / alone:8.2f}")
    print(f"their mean losses differ by {abs(losses[1] - losses[asked.ranks]):.1e} nats")


def told(speeds: list[float]) -> str:
    return ", ".join(f"{speed:.0f}" for speed in speeds)


def make(home: Path) -> None:
    shutil.copytree(TOKENIZER, home / "models" / "llama", ignore=shutil.ignore_patterns("*.safetensors", "config.json"))
    torch.manual_seed(0)
    shape = {"hidden_size": 320, "intermediate_size": 864, "num_hidden_layers": 6, "num_attention_heads": 5}
    rows = json.loads((TOKENIZER / "config.json").read_text())["vocab_size"]
    config = LlamaConfig(vocab_size=rows, max_position_embeddings=LENGTH, **shape)
    LlamaForCausalLM(config).save_pretrained(home / "models" / "llama")
    data = home / "datasets" / "data"
    data.mkdir(parents=True)
    words = random.Random(0)
    lines = (" ".join(f"{words.randrange(10**4)}" for _ in range(200)) for _ in range(600))
    (data / "texts.txt").write_text("\n".join(lines))
    (data / "dataset_info.json").write_text('{"texts": {"file_name": "texts.txt", "columns": {"prompt": "text"}}}')


def work_of(home: Path, n_ranks: int, n_updates: int, finetuning_type: str, attempt: int) -> Work:
    document = {
        "model": {"model_name_or_path": "llama", "disable_gradient_checkpointing": True},
        "data": {"dataset": "texts", "cutoff_len": LENGTH},
        "finetuning": {"stage": "pt", "finetuning_type": finetuning_type},
        "training": {"per_device_train_batch_size": BLOCKS // n_ranks, "max_steps": n_updates, "logging_steps": n_updates},
        "measures": {"names": ""},
    }
    return Work(
        job_id=f"job-{n_ranks}",
        attempt=attempt,
        job=read_job(document).resolved.model_dump(mode="json"),
        artifacts_root=str(home / "artifacts"),
        models_root=str(home / "models"),
        datasets_root=str(home / "datasets"),
        cache_root=str(home / "cache"),
        hub=False,
        modelscope=False,
        device=None,
        threads=1,
        lease_seconds=3600,
        ranks=n_ranks,
        stand_ins=True,
    )


def trained(work: Work) -> tuple[float, float]:
    """Tokens a second of all updates, and the mean loss."""
    ours, theirs = _fork.Pipe()
    process = _fork.Process(target=child.main, args=(work.to_document(), theirs))
    process.start()
    theirs.close()
    messages = []
    try:
        while True:
            messages.append(json.loads(ours.recv_bytes()))
    except EOFError:
        process.join()
    if messages[-1].get("outcome") != "succeeded":
        raise SystemExit(f"{messages[-1]}\n{Path(work.folder, 'log.txt').read_text()}")
    values = next(message["values"] for message in messages if message["message"] == "points")
    return values["tokens_per_second"], values["loss"]


if __name__ == "__main__":
    os.environ |= {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    main()
