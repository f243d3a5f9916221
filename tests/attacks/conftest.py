"""Models and tokenizers are those of the worker's tests."""

from tests.worker.conftest import make_llama, tokenizer_folder

__all__ = ["make_llama", "tokenizer_folder"]
