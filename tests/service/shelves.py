"""An operator's folders, made on the spot: a model of a few hundred parameters, and data sets good and bad."""

import json
from math import prod
from pathlib import Path
from typing import Any

from service.library.check import Roots

VOCABULARY, HIDDEN, INNER, LAYERS = 10, 4, 8, 2

CONFIG = {"model_type": "llama", "num_hidden_layers": LAYERS, "tie_word_embeddings": False}

ROWS = 10

DATASET_INFO = {
    "letters": {"file_name": "letters.json"},
    "lines": {"file_name": "lines.txt", "columns": {"prompt": "text"}},
    "records": {"file_name": "records.jsonl"},
    "empty": {"file_name": "empty.json"},
    "no_rows": {"file_name": "no_rows.json"},
    "broken": {"file_name": "broken.json"},
    "gone": {"file_name": "gone.json"},
    "outside": {"file_name": "../../secret.json"},
    "absolute": {"file_name": "/etc/passwd"},
    "table": {"file_name": "table.parquet"},
    "chats": {"file_name": "letters.json", "formatting": "sharegpt"},
    "pairs": {"file_name": "letters.json", "ranking": True},
    "labels": {"file_name": "letters.json", "columns": {"kto_tag": "good"}},
    "hub": {"hf_hub_url": "someone/something"},
    "scope": {"ms_hub_url": "someone/something"},
    "script": {"script_url": "something"},
    "nothing": {"formatting": "alpaca"},
    "sheet": {"file_name": "sheet.xlsx"},
    "mixed": {"file_name": "mixed"},
    "parts": {"file_name": "parts"},
    "cells": {"file_name": "cells.csv"},
}


def tensors() -> dict[str, list[int]]:
    """40 embeddings, 168 in each of 2 layers, 4 in the last norm, 40 in the head: 420."""
    shapes = {"model.embed_tokens.weight": [VOCABULARY, HIDDEN], "model.norm.weight": [HIDDEN]}
    for layer in range(LAYERS):
        for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
            shapes[f"model.layers.{layer}.self_attn.{name}.weight"] = [HIDDEN, HIDDEN]
        shapes[f"model.layers.{layer}.mlp.gate_proj.weight"] = [INNER, HIDDEN]
        shapes[f"model.layers.{layer}.mlp.up_proj.weight"] = [INNER, HIDDEN]
        shapes[f"model.layers.{layer}.mlp.down_proj.weight"] = [HIDDEN, INNER]
        shapes[f"model.layers.{layer}.input_layernorm.weight"] = [HIDDEN]
        shapes[f"model.layers.{layer}.post_attention_layernorm.weight"] = [HIDDEN]
    return shapes | {"lm_head.weight": [VOCABULARY, HIDDEN]}


def write_model(folder: Path, shapes: dict[str, list[int]] | None = None, **config: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG | config))
    write_safetensors(folder / "model.safetensors", tensors() if shapes is None else shapes)
    return folder


def write_safetensors(path: Path, shapes: dict[str, list[int]], missing_bytes: int = 0) -> None:
    """Zeros of those shapes."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in shapes.items():
        begin, end = end, end + 4 * prod(shape)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [begin, end]}
    encoded = json.dumps(header).encode()
    path.write_bytes(len(encoded).to_bytes(8, "little") + encoded + bytes(end - missing_bytes))


def write_datasets(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    rows = [{"instruction": f"What follows {letter}?", "output": "The next."} for letter in "abcdefghij"]
    (folder / "dataset_info.json").write_text(json.dumps(DATASET_INFO))
    (folder / "letters.json").write_text(json.dumps(rows))
    (folder / "records.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    (folder / "lines.txt").write_text("one line\n\nanother line\r\n   \nthe last")
    (folder / "empty.json").touch()
    (folder / "no_rows.json").write_text(" [] \n")
    (folder / "broken.json").write_text('[{"instruction": 1},\n oops]')
    (folder / "table.parquet").write_bytes(b"PAR1 and nothing more")
    (folder / "sheet.xlsx").write_bytes(b"PK")
    (folder / "cells.csv").write_text('instruction,output\na,"b\nc"\n\nd,e\nf,\n')
    for name in ("mixed/a.txt", "mixed/b.csv", "parts/train.jsonl", "parts/validation.jsonl"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("\n".join(map(json.dumps, rows[: 2 if "train" in name else 1])))
    return folder


def stocked(folder: Path) -> Roots:
    """models/tiny, models/org/small, and datasets/data."""
    write_model(folder / "models" / "tiny")
    write_model(folder / "models" / "org" / "small")
    write_datasets(folder / "datasets" / "data")
    (folder / "secret.json").write_text("[{}]")
    return Roots(folder / "models", folder / "datasets")
