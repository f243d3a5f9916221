"""lm-evaluation-harness on a local model and local texts, in a process of its own: `python harness.py ASKED.json`.

ASKED.json has `model` (a folder), `texts`, `max_length` and `prefix` (a token's id). Prints the harness's own results as JSON.
"""

import json
import os
import sys
import tempfile
from pathlib import Path

os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}

METRICS = ("word_perplexity", "byte_perplexity", "bits_per_byte")


def main() -> None:
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM

    asked = json.loads(Path(sys.argv[1]).read_text())
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "texts.jsonl")
        file.write_text("\n".join(json.dumps({"text": text}) for text in asked["texts"]))
        task = {
            "task": "texts",
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": {"test": str(file)}, "cache_dir": folder},
            "test_split": "test",
            "output_type": "loglikelihood_rolling",
            "doc_to_text": "",
            "doc_to_target": "text",
            "metric_list": [{"metric": metric} for metric in METRICS],
        }
        model = HFLM(
            pretrained=asked["model"],
            device="cpu",
            dtype="float32",
            batch_size=1,
            max_length=asked["max_length"],
            prefix_token_id=asked["prefix"],
        )
        results = simple_evaluate(model=model, tasks=[task], bootstrap_iters=0)["results"]["texts"]
    print(json.dumps({metric: results[f"{metric},none"] for metric in METRICS}))


if __name__ == "__main__":
    main()
