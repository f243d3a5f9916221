"""Makes the example model: a byte-level tokenizer of 1024 tokens and a Llama of 0.54 million parameters.

    python examples/make_example_model.py --fresh-only --out examples/models/tiny-llama

Every word of the source is one token, at the start of a text as well as inside it: the tokenizer puts a space before the first
word. Bits per token of a text from the source are therefore its bits per word.
"""

import argparse
import random
from collections.abc import Iterator
from pathlib import Path

import torch
from make_texts import asked, instructions, primer
from source import SOURCE, sample
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

VOCABULARY = 1024
POSITIONS = 1024
HERE = Path(__file__).parent


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


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the example model.")
    parser.add_argument("--out", type=Path, default=HERE / "models" / "tiny-llama")
    parser.add_argument("--fresh-only", action="store_true", required=True, help="stop at random weights")
    fresh(parser.parse_args().out)


if __name__ == "__main__":
    main()
