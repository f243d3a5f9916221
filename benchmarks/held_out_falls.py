"""Does what a job learns show on text it has not seen? A LoRA SFT on a real data set, through the whole service.

    python benchmarks/held_out_falls.py [--data FOLDER --dataset NAME]

FOLDER holds a dataset_info.json in LLaMA-Factory's format, with NAME as an alpaca data set in a JSON file. The model is a Llama
of about ten million parameters, made on the spot with a tokenizer trained on that data; its weights are random, so all that is
measured was learned in the job. Prints the table per checkpoint, and the ratio of held-out cross-entropy to the base's.
"""

import argparse
import json
import os
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from service.cli.measured import show_measured
from service.cli.screen import Screen
from service.client import Client
from service.embedded import running
from service.settings import Settings
from service.specs.dataset_info import files_of, read_dataset_info

VOCABULARY = 8192


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(__file__).parent.parent / "examples" / "data")
    parser.add_argument("--dataset", default="instructions")
    parser.add_argument("--epochs", type=float, default=2)
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory(prefix="fb-bench-") as home:
        make_model(Path(home, "models", "llama-10m"), arguments.data, arguments.dataset)
        data = arguments.data.resolve()
        settings = Settings(home=home, models_root=Path(home, "models"), datasets_root=data.parent, port=0)
        with running(settings) as service, Client(service.url) as client:
            run(client, job(data.name, arguments.dataset, arguments.epochs))


def job(folder: str, dataset: str, epochs: float) -> dict[str, object]:
    return {
        "model": {"model_name_or_path": "llama-10m", "disable_gradient_checkpointing": True},
        "data": {"dataset_dir": folder, "dataset": dataset, "template": "alpaca", "cutoff_len": 256, "val_size": 0.1},
        # the base knows nothing yet: beside the adapter its embeddings and its head must learn what the tokens are
        "finetuning": {"lora_rank": 16, "lora_target": "all", "additional_target": "embed_tokens,lm_head"},
        "training": {
            "per_device_train_batch_size": 8,
            "learning_rate": 1e-3,
            "num_train_epochs": epochs,
            "lr_scheduler_type": "cosine",
            "warmup_ratio": 0.05,
            "save_steps": 45,
            "group_by_length": True,
        },
        "resources": {"gpus": 0},
    }


def run(client: Client, document: dict[str, object]) -> None:
    began = time.monotonic()
    made = client.submit(document)
    seen = 0
    while True:
        found = client.job(made["id"])
        for event in client.events(made["id"], after=seen):
            print(event["message"], flush=True)
            seen = event["number"]
        if found["state"] in ("succeeded", "failed", "cancelled"):
            break
        time.sleep(1)
    if found["state"] != "succeeded":
        raise SystemExit(f"{found['reason']}: {found['sentence']}")
    rows = client.metrics(made["id"])
    show_measured(Screen(), rows)
    bits = [row["measures"]["cross_entropy"]["value"] for row in rows]
    falls = [later < earlier for earlier, later in pairwise(bits)]
    print(f"held-out cross-entropy falls at {sum(falls)} of {len(falls)} checkpoints")
    print(f"last checkpoint / base: {bits[-1] / bits[0]:.3f}; wall time {time.monotonic() - began:.0f} s")


def make_model(folder: Path, data: Path, dataset: str) -> None:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    specials = ["<s>", "</s>", "<pad>"]
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY, special_tokens=specials, initial_alphabet=alphabet, show_progress=False)
    entry = read_dataset_info(data)[dataset]
    rows = [row for file in files_of(data, entry) for row in json.loads(file.read_text(encoding="utf-8"))]
    tokenizer.train_from_iterator((str(value) for row in rows for value in row.values()), trainer)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>").save_pretrained(
        folder
    )
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=256,
        intermediate_size=768,
        num_hidden_layers=7,
        num_attention_heads=8,
        max_position_embeddings=1024,
        tie_word_embeddings=False,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=2,
    )
    model = LlamaForCausalLM(config)
    print(f"a Llama of {sum(p.numel() for p in model.parameters()):,} parameters")
    model.save_pretrained(folder)


if __name__ == "__main__":
    main()
