"""Tokenizers and models from the operator's own folders: nothing is fetched, and no code that comes with a model is run.

Every error names the model by its folder's name, and a file by its own, never by the path on this host.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging

from service.specs.reasons import Reason
from worker.failures import JobFailure
from worker.models.embeddings import tokens_of
from worker.models.quantization import keep_packing, quantized_with


def load_tokenizer(path: Path, split_special_tokens: bool = False) -> PreTrainedTokenizerBase:
    """Pads on the right, with EOS where it has no padding token of its own."""
    _refuse_missing(path)
    _quieten()
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            path,
            padding_side="right",
            split_special_tokens=split_special_tokens,
            local_files_only=True,
            trust_remote_code=False,
        )
    except Exception as error:  # the tokenizers library raises bare Exception
        raise JobFailure(Reason.BAD_MODEL, f"The model {path.name!r} has no usable tokenizer: {said(error, path)}") from None
    if tokenizer.eos_token_id is None:
        sentence = f"The tokenizer of {path.name!r} has no end-of-sequence token, so no text could be ended."
        raise JobFailure(Reason.BAD_MODEL, sentence)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_config(path: Path) -> PreTrainedConfig:
    """What the model's folder says of it, before anything is loaded."""
    _refuse_missing(path)
    _refuse_unlike_a_model(path)
    _quieten()
    try:
        config = AutoConfig.from_pretrained(path, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # whatever a file of somebody else's can make the libraries raise
        raise JobFailure(Reason.BAD_MODEL, f"The model {path.name!r} cannot be loaded: {said(error, path)}") from None
    # how it computes is the job's to say: transformers would take another's kernel, which is code, from a hub
    config._attn_implementation = None
    config._experts_implementation = None
    return config


def load_model(
    path: Path,
    dtype: torch.dtype | Literal["auto"],
    config: PreTrainedConfig | None = None,
    quantization: BitsAndBytesConfig | None = None,
    device: torch.device | None = None,
) -> PreTrainedModel:
    """A causal language model whose every weight came from its files; a quantized one is made on its device.

    With "auto" its numbers are of the type that its files have.
    """
    config = load_config(path) if config is None else config
    refuse_broken_weights(path)
    special: dict[str, Any] = {}
    if quantization is not None:
        special["quantization_config"] = quantization  # named only where there is one: None would undo the checkpoint's own
    if quantization is not None or quantized_with(config) is not None:
        special["device_map"] = {"": device or torch.device("cpu")}
    try:
        model, report = AutoModelForCausalLM.from_pretrained(
            path,
            config=config,
            dtype=dtype,
            output_loading_info=True,
            local_files_only=True,
            trust_remote_code=False,
            weights_only=True,
            **special,
        )
    except (torch.OutOfMemoryError, MemoryError):
        raise
    except Exception as error:  # whatever a file of somebody else's can make the libraries raise
        raise JobFailure(Reason.BAD_MODEL, f"The model {path.name!r} cannot be loaded: {said(error, path)}") from None
    _refuse_missing_weights(path, sorted(report["missing_keys"]))
    keep_packing(model)
    return model


def refuse_small_vocabulary(path: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """A token without a row would be an index out of range, or another's row."""
    rows = model.get_input_embeddings().num_embeddings
    tokens = tokens_of(tokenizer)
    if tokens > rows:
        sentence = (
            f"The tokenizer has {tokens} tokens, and the model {path.name!r} has a vocabulary of {rows}: they do not match. "
            "With resize_vocab the model grows a row for each token."
        )
        raise JobFailure(Reason.BAD_MODEL, sentence)


def half_precision_of(path: Path) -> torch.dtype | None:
    """Of a model that can be loaded: the half precision that every number in its files has; None where one has another."""
    found: set[torch.dtype] = set()
    for file in _weight_files(path):
        if file.suffix == ".safetensors":
            with safe_open(file, "pt") as tensors:
                found |= {_HALVES.get(tensors.get_slice(key).get_dtype(), torch.float32) for key in tensors.keys()}  # noqa: SIM118
        else:
            found |= {tensor.dtype for tensor in torch.load(file, map_location="meta", weights_only=True).values()}
    return found.pop() if len(found) == 1 and found <= set(_HALVES.values()) else None


_HALVES = {"BF16": torch.bfloat16, "F16": torch.float16}


def _quieten() -> None:
    """A worker's log is not a terminal: no progress bars, and no reports of what is checked here anyway."""
    logging.disable_progress_bar()
    logging.set_verbosity_error()


def _refuse_missing(path: Path) -> None:
    if not path.is_dir():
        raise JobFailure(Reason.MISSING_MODEL, f"There is no model {path.name!r} in the models folder.")


def _refuse_unlike_a_model(path: Path) -> None:
    # transformers would load the base that an adapter names, wherever that lies
    if (path / "adapter_config.json").exists() and not (path / "config.json").exists():
        raise JobFailure(Reason.BAD_MODEL, f"{path.name!r} is an adapter, not a whole model.", file="adapter_config.json")
    _json_object(path, "config.json")


def refuse_broken_weights(path: Path) -> None:
    for file in _weight_files(path):
        if not file.is_file():
            raise JobFailure(Reason.BAD_MODEL, f"The model {path.name!r} lacks the weights file {file.name}.", file=file.name)
        try:
            if file.suffix == ".safetensors":
                with safe_open(file, "pt"):  # reads the header, which says how long the file must be
                    pass
            else:
                torch.load(file, map_location="meta", weights_only=True)
        except (torch.OutOfMemoryError, MemoryError):
            raise
        except SafetensorError as error:
            raise _broken(path, file, str(error)) from None
        except Exception:  # torch.load raises what its parsers raise, and its advice is not for a service to follow
            raise _broken(path, file, "it is damaged, or holds more than tensors") from None


def _weight_files(path: Path) -> Iterator[Path]:
    """In the order in which transformers looks for them."""
    for name in ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json"):
        if not (path / name).exists():
            continue
        if name.endswith(".index.json"):
            shards = _json_object(path, name).get("weight_map")
            if not isinstance(shards, dict):
                raise JobFailure(Reason.BAD_MODEL, f"{name} of the model {path.name!r} has no weight_map.", file=name)
            yield from (_shard(path, name, shard) for shard in sorted(set(map(str, shards.values()))))
        else:
            yield path / name
        return
    raise JobFailure(
        Reason.BAD_MODEL, f"The model {path.name!r} has no weights: neither model.safetensors nor pytorch_model.bin."
    )


def _shard(path: Path, index: str, shard: str) -> Path:
    """In the model's own folder: a model of a hub's could name the files of others."""
    if Path(shard).name != shard:
        raise JobFailure(
            Reason.BAD_MODEL, f"{index} of the model {path.name!r} names {shard!r}, which is no file's name.", file=index
        )
    return path / shard


def _json_object(path: Path, name: str) -> dict[str, Any]:
    try:
        document = json.loads((path / name).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise JobFailure(Reason.BAD_MODEL, f"The model {path.name!r} has no {name}.", file=name) from None
    except ValueError as error:
        raise JobFailure(Reason.BAD_MODEL, f"{name} of the model {path.name!r} is not valid JSON: {error}.", file=name) from None
    if not isinstance(document, dict):
        raise JobFailure(Reason.BAD_MODEL, f"{name} of the model {path.name!r} must be an object.", file=name)
    return document


def _refuse_missing_weights(path: Path, missing: list[str]) -> None:
    """transformers would go on with random numbers in their place."""
    if not missing:
        return
    more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
    files = ", ".join(dict.fromkeys(file.name for file in _weight_files(path)))
    sentence = f"The weights of the model {path.name!r} ({files}) lack {', '.join(missing[:3])}{more}."
    raise JobFailure(Reason.BAD_MODEL, sentence)


def _broken(path: Path, file: Path, why: str) -> JobFailure:
    sentence = f"The weights file {file.name} of the model {path.name!r} cannot be read: {why}."
    return JobFailure(Reason.BAD_MODEL, sentence, file=file.name)


def said(error: Exception, path: Path) -> str:
    """The first line of what a library says, without the path on this host."""
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return line.replace(str(path), path.name)[:300]
