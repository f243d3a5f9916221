"""lm-evaluation-harness on a local model and prompts, in a process of its own: `python harness.py ASKED.json`.

ASKED.json has `model` (a folder), `delimiter` (before a letter) and `prompts`. Prints the log-likelihood of each letter.
"""

import json
import os
import sys
import tempfile
from pathlib import Path

os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}


def main() -> None:
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM

    asked = json.loads(Path(sys.argv[1]).read_text())
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "prompts.jsonl")
        rows = ({"prompt": prompt, "letters": list("ABCD"), "right": 0} for prompt in asked["prompts"])
        file.write_text("\n".join(map(json.dumps, rows)))
        task = {
            "task": "prompts",
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": {"test": str(file)}, "cache_dir": folder},
            "test_split": "test",
            "output_type": "multiple_choice",
            "doc_to_text": "prompt",
            "doc_to_choice": "letters",
            "doc_to_target": "right",
            "target_delimiter": asked["delimiter"],
            "metric_list": [{"metric": "acc"}],
        }
        model = HFLM(pretrained=asked["model"], device="cpu", dtype="float32", batch_size=1)
        samples = simple_evaluate(model=model, tasks=[task], bootstrap_iters=0)["samples"]["prompts"]
    samples.sort(key=lambda sample: sample["doc_id"])
    print(json.dumps([[float(response[0]) for response in sample["filtered_resps"]] for sample in samples]))


if __name__ == "__main__":
    main()
