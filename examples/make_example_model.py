"""Makes the example model: a byte-level tokenizer of 1024 tokens and a Llama of 0.54 million parameters.

    python examples/make_example_model.py

It starts from random weights and trains them on the primer with the project's own pretraining: the same stage, in the same
pipeline, that a job's step runs. Two minutes on one core.

Every word of the source is one token, at the start of a text as well as inside it: the tokenizer puts a space before the first
word. Bits per token of a text from the source are therefore its bits per word.
"""

import argparse
import json
import random
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
from make_texts import asked, instructions, primer
from source import SOURCE, sample
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from service.specs.read import read_job
from worker.pipeline import run as run_pipeline
from worker.run import Run
from worker.work import Work

VOCABULARY = 1024
POSITIONS = 1024
HERE = Path(__file__).parent

PRETRAINING = {
    "data": {"dataset": "primer", "cutoff_len": 256, "val_size": 0.05},
    "finetuning": {"stage": "pt", "finetuning_type": "full"},
    "resources": {"gpus": 0},
    "training": {
        "per_device_train_batch_size": 16,
        "learning_rate": 3e-3,
        "lr_scheduler_type": "cosine",
        "warmup_steps": 20,
        "max_steps": 300,
        "save_steps": 100,
    },
}


def fresh(folder: Path, seed: int = 4) -> None:
    """Writes the tokenizer and random weights."""
    tokenizer = build_tokenizer()
    torch.manual_seed(seed)
    model = LlamaForCausalLM(config(tokenizer))
    tokenizer.save_pretrained(folder)
    model.save_pretrained(folder)


def build_tokenizer() -> PreTrainedTokenizerFast:
    """No chat template, and no token of its own around a text: what begins and ends a text is the service's to say."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(texts(), bpe_trainer())
    assert all(len(tokenizer.encode(word).ids) == 1 for word in SOURCE.words), "a word of the source is cut into pieces"
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>", model_max_length=POSITIONS
    )


def bpe_trainer() -> trainers.BpeTrainer:
    return trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<s>", "</s>", "<pad>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )


def texts(seed: int = 5) -> Iterator[str]:
    """The merges are learned from the primer, the instructions, and enough of the source to keep each of its words whole."""
    yield from primer()
    for record in instructions():
        yield f"### Instruction:\n{asked(record)}\n\n### Response:\n{record['output']}"
    rng = random.Random(seed)
    yield from (sample(120, rng) for _ in range(400))


def config(tokenizer: PreTrainedTokenizerFast) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=96,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        intermediate_size=256,
        max_position_embeddings=POSITIONS,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        dtype="float32",
    )


def pretrain(models_root: Path, name: str, out: Path) -> None:
    """Trains the model `name` on the primer and copies what a user of it needs to `out`."""
    with tempfile.TemporaryDirectory(prefix="finebits-example-") as folder:
        read = read_job(PRETRAINING | {"model": {"model_name_or_path": name, "disable_gradient_checkpointing": True}})
        work = Work(
            job_id="example-model",
            attempt=1,
            job=read.resolved.model_dump(mode="json"),
            artifacts_root=folder,
            models_root=str(models_root),
            datasets_root=str(HERE),
            cache_root=folder,
            hub=False,
            modelscope=False,
            device=None,
            threads=1,
            lease_seconds=60,
        )
        voice = Aloud()
        run_pipeline(work, Run(voice, Path(folder)))
        out.mkdir(parents=True, exist_ok=True)
        for file in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"):
            shutil.copyfile(Path(folder, voice.output, file), out / file)


class Aloud:
    """Prints what the pipeline says, in place of the pipe to a supervisor."""

    output = ""

    def send_bytes(self, buf: bytes) -> None:
        message = json.loads(buf)
        if message["message"] == "event":
            print(message["text"])
        elif message["message"] == "step":
            self.output = message["output"]


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the example model.")
    parser.add_argument("--out", type=Path, default=HERE / "models" / "tiny-llama")
    out = parser.parse_args().out
    with tempfile.TemporaryDirectory(prefix="finebits-example-") as folder:
        fresh(Path(folder, out.name))
        pretrain(Path(folder), out.name, out)


if __name__ == "__main__":
    main()
