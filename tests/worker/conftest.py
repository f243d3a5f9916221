"""A tokenizer and models small enough to be made on the spot."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from service.store.session import Database
from tests.running import Running, write_datasets

SENTENCES = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the request.",
    "the quick brown fox jumps over the lazy dog and the other animals of the forest there",
    "Human: what is this? Assistant: this is an assistant that answers what the human asked.",
)


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A byte-level BPE of 300 tokens with <s> and </s>, as it lies on disk."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=["<s>", "</s>"], initial_alphabet=alphabet, show_progress=False)
    backend.train_from_iterator(SENTENCES, trainer)
    folder = tmp_path_factory.mktemp("tokenizer")
    PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>").save_pretrained(folder)
    return folder


@pytest.fixture
def tokenizer(tokenizer_folder: Path) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(tokenizer_folder)


@pytest.fixture
def tokenizer_without_bos(tokenizer_folder: Path) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(tokenizer_folder, bos_token=None)


@pytest.fixture(scope="session")
def make_llama() -> Callable[..., LlamaForCausalLM]:
    """A Llama of random weights; the same arguments give the same weights."""

    def make(seed: int = 0, **config: int) -> LlamaForCausalLM:
        torch.manual_seed(seed)
        shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
        return LlamaForCausalLM(LlamaConfig(**{"vocab_size": 300, "max_position_embeddings": 256, **shape, **config}))

    return make


@pytest.fixture
def running(
    tmp_path: Path,
    database: Database,
    broker_url: str,
    make_llama: Callable[..., LlamaForCausalLM],
    tokenizer: PreTrainedTokenizerBase,
) -> Iterator[Running]:
    """Folders with a tiny model and data, and workers that a test starts itself."""
    make_llama().save_pretrained(tmp_path / "models" / "tiny")
    tokenizer.save_pretrained(tmp_path / "models" / "tiny")
    write_datasets(tmp_path / "datasets" / "data")
    service = Running(tmp_path, database, broker_url)
    service.wipe_broker()
    yield service
    service.stop()
