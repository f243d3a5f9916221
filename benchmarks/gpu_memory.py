"""How near a dry run's estimate of peak GPU memory comes to what the training process takes: estimated over measured, by job.

    python benchmarks/gpu_memory.py [--only full,lora --hidden 1536 --layers 16 --length 1024 --batch 4 --at-once 4]

On a GPU on which nothing else runs. A Llama of random weights (500 million by default) trains for a few updates on texts that
are all longer than cutoff_len, which is what the estimate counts with; each job is a process of its own. Measured is the most
that torch's allocator had handed out, beside the estimate without the context; the most that it had reserved; and the context:
what the driver counts for the process, less what was reserved at the end.
"""

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from service.library import memory
from service.library.check import Roots
from service.library.memory import Memory
from service.specs.read import read_job
from worker import pipeline
from worker.models import value_head
from worker.models.value_head import ValueHead
from worker.nvml import open_nvml
from worker.run import Run
from worker.work import Work

TOKENIZER = Path(__file__).parent.parent / "examples" / "models" / "tiny-llama"
ROWS = 32_000
UPDATES = 3
WHOLE = {"model": {"disable_gradient_checkpointing": True}}
CASES: dict[str, dict[str, Any]] = {
    "full": {"finetuning": {"finetuning_type": "full"}},
    "full, bf16": {"finetuning": {"finetuning_type": "full"}, "training": {"bf16": True}},
    "full, bf16, no checkpointing": {"finetuning": {"finetuning_type": "full"}, "training": {"bf16": True}, **WHOLE},
    "full, adafactor": {"finetuning": {"finetuning_type": "full"}, "training": {"optim": "adafactor"}},
    "freeze": {"finetuning": {"finetuning_type": "freeze", "num_layer_trainable": 2}},
    "lora": {},
    "lora, no checkpointing": WHOLE,
    "lora in bf16, no checkpointing": {"finetuning": {"lora_bf16_mode": True}, **WHOLE},
    "lora, all linear layers": {"finetuning": {"lora_target": "q_proj,k_proj,v_proj,o_proj,gate_proj,up_proj,down_proj"}},
    "qlora, 4 bits": {"model": {"quantization_bit": 4}},
    "qlora, 8 bits": {"model": {"quantization_bit": 8}},
    "pt, lora": {"finetuning": {"stage": "pt"}, "data": {"dataset": "texts", "template": None}},
    "rm, lora": {"finetuning": {"stage": "rm"}, "data": {"dataset": "pairs"}},
    "dpo, lora": {"finetuning": {"stage": "dpo"}, "data": {"dataset": "pairs"}},
    "dpo, full": {
        "finetuning": {"stage": "dpo", "finetuning_type": "full"},
        "data": {"dataset": "pairs"},
        "training": {"bf16": True},
    },
    "ppo, lora": {
        "finetuning": {"stage": "ppo", "reward_model": "judge", "reward_model_type": "full", "ppo_buffer_size": 1},
        "generating": {"max_new_tokens": 128},
    },
}


class Mute:
    """The pipe of a process that nobody listens to."""

    def send_bytes(self, buf: bytes) -> None:
        pass


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help="names of jobs, or beginnings of them, separated by commas")
    parser.add_argument("--hidden", type=int, default=1536)
    parser.add_argument("--layers", type=int, default=16)
    parser.add_argument("--length", type=int, default=1024, help="tokens of a text")
    parser.add_argument("--batch", type=int, default=4, help="texts of a batch")
    parser.add_argument("--at-once", type=int, default=4, help="jobs at once on the GPU")
    parser.add_argument("--case", choices=CASES, help=argparse.SUPPRESS)
    parser.add_argument("--home", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("torch sees no GPU here: nothing was measured")
    if asked.case:
        print(json.dumps(measured(asked.home, asked.case, asked.length, asked.batch)))
        return
    beginnings = tuple(asked.only.split(",")) if asked.only else ("",)
    names = [name for name in CASES if name.startswith(beginnings)]
    with tempfile.TemporaryDirectory(prefix="fb-bench-") as folder:
        make(Path(folder), asked.hidden, asked.layers, asked.length)
        print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}; MB, and estimated / measured")
        print(f"{'':32s} {'estimated':>9s} {'allocated':>9s} {'':5s} {'reserved':>9s} {'':5s} {'context':>8s}")
        with ThreadPoolExecutor(asked.at_once) as pool:
            for name, found in zip(names, pool.map(lambda name: run(Path(folder), name, asked), names), strict=True):
                print(told(name, found))


def told(name: str, found: dict[str, Any]) -> str:
    if "failed" in found:
        return f"{name:32s} {found['failed']}"
    estimated = Memory(**found["estimated"])
    own = estimated.peak - estimated.context
    allocated, reserved, context = found["allocated"], found["reserved"], found["context"]
    parts = ", ".join(f"{part} {size / 1e6:.0f}" for part, size in found["estimated"].items() if size and part != "context")
    ratios = f"{allocated / 1e6:9.0f} {own / allocated:5.2f} {reserved / 1e6:9.0f} {own / reserved:5.2f}"
    return f"{name:32s} {own / 1e6:9.0f} {ratios} {context / 1e6:8.0f}   {parts}"


def run(home: Path, name: str, asked: argparse.Namespace) -> dict[str, Any]:
    options = ("--length", str(asked.length), "--batch", str(asked.batch))
    command = [sys.executable, __file__, "--case", name, "--home", str(home), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return {"failed": done.stderr.strip().splitlines()[-1]}
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def make(home: Path, hidden: int, layers: int, length: int) -> None:
    shutil.copytree(TOKENIZER, home / "models" / "llama", ignore=shutil.ignore_patterns("*.safetensors", "config.json"))
    torch.manual_seed(0)
    shape = {"hidden_size": hidden, "num_hidden_layers": layers, "num_attention_heads": hidden // 128}
    config = LlamaConfig(
        vocab_size=ROWS, intermediate_size=hidden * 8 // 3, num_key_value_heads=4, max_position_embeddings=4 * length, **shape
    )
    with torch.device("cuda"):
        model = LlamaForCausalLM(config).to(torch.bfloat16)
    model.save_pretrained(home / "models" / "llama")
    shutil.copytree(home / "models" / "llama", home / "models" / "judge")
    value_head.save(ValueHead(hidden), home / "models" / "judge")
    del model
    torch.cuda.empty_cache()
    data = home / "datasets" / "data"
    data.mkdir(parents=True)
    words = random.Random(0)

    def text() -> str:
        return " ".join(f"{words.randrange(10**4)}" for _ in range(length))

    rows = 64
    (data / "texts.txt").write_text("\n".join(text() for _ in range(rows)))
    asked = [{"instruction": f"Count from {n}.", "output": text()} for n in range(rows)]
    (data / "asked.json").write_text(json.dumps(asked))
    pairs = [{"instruction": f"Count from {n}.", "chosen": text(), "rejected": text()} for n in range(rows)]
    (data / "pairs.json").write_text(json.dumps(pairs))
    info = {
        "texts": {"file_name": "texts.txt", "columns": {"prompt": "text"}},
        "asked": {"file_name": "asked.json"},
        "pairs": {"file_name": "pairs.json", "ranking": True},
    }
    (data / "dataset_info.json").write_text(json.dumps(info))


def document_of(case: str, length: int, batch: int) -> dict[str, Any]:
    document: dict[str, Any] = {
        "model": {"model_name_or_path": "llama"},
        "data": {"dataset": "asked", "template": "alpaca", "cutoff_len": length},
        "finetuning": {"stage": "sft"},
        "training": {"per_device_train_batch_size": batch, "max_steps": UPDATES},
        "measures": {"names": ""},
        "resources": {"gpus": 1},
    }
    for group, values in CASES[case].items():
        document[group] = {**document.get(group, {}), **values}
    return document


def measured(home: Path, case: str, length: int, batch: int) -> dict[str, Any]:
    """In this process: the job's own pipeline, and what the allocator and the driver say of it."""
    resolved = read_job(document_of(case, length, batch)).resolved
    (estimated,) = memory.of_job(Roots(home / "models", home / "datasets"), resolved).values()
    if isinstance(estimated, str):
        raise SystemExit(estimated)
    artifacts = home / case.replace(" ", "-").replace(",", "")
    artifacts.mkdir()
    work = Work(
        job_id="job",
        attempt=1,
        job=resolved.model_dump(mode="json"),
        artifacts_root=str(artifacts),
        models_root=str(home / "models"),
        datasets_root=str(home / "datasets"),
        exports_root=str(artifacts / "exports"),
        cache_root=str(artifacts / "cache"),
        hub=False,
        modelscope=False,
        device="0",
        threads=1,
        lease_seconds=3600,
    )
    pipeline.run(work, Run(Mute(), artifacts))
    found = {
        "estimated": vars(estimated),
        "allocated": torch.cuda.max_memory_allocated(),
        "reserved": torch.cuda.max_memory_reserved(),
        "context": of_process() - torch.cuda.memory_reserved(),
    }
    shutil.rmtree(artifacts)
    return found


def of_process() -> int:
    """Bytes of the first GPU that the driver counts as this process's."""
    nvml = open_nvml()
    if nvml is None:
        raise SystemExit("the driver's library (nvidia-ml-py) is not there")
    return sum(process.memory_bytes or 0 for process in nvml.processes(nvml.handle("0")) if process.pid == os.getpid())


if __name__ == "__main__":
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    main()
