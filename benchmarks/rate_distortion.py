"""What GPTQ costs at 8, 4, 3 and 2 bits: the rate-distortion table of the demo's model.

    python benchmarks/rate_distortion.py

One job trains the example model on its texts and exports it in each number of bits; the table is what the exports' certificates
say. Needs the extra gptq: docs/how-to/quantize.md.
"""

import json
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.worker.stages.attempts import Host  # noqa: E402

BITS = (8, 4, 3, 2)
SEEN = {"export_quantization_dataset": "markov", "export_quantization_nsamples": 128, "export_quantization_maxlen": 128}


def job() -> dict[str, Any]:
    training = {"max_steps": 300, "per_device_train_batch_size": 8, "learning_rate": 2e-3, "save_steps": 300}
    small = [
        {"name": f"q{bits}", "do": "export", "model": {"model_name_or_path": "@pt", "export_quantization_bit": bits, **SEEN}}
        for bits in BITS
    ]
    return {
        "model": {"model_name_or_path": "tiny-llama"},
        "data": {"dataset": "markov", "cutoff_len": 256, "val_size": 40},
        "finetuning": {"stage": "pt", "finetuning_type": "full"},
        "measures": {"names": ""},
        "training": {"seed": 42},
        "steps": [{"name": "pt", "do": "train", "training": training}, *small],
    }


def row(found: dict[str, Any]) -> str:
    cost = found["rate_distortion"]
    kl, change = found["kl_from_reference"]["mean"], found["cross_entropy_change"]
    cells = (
        str(cost["bits"]),
        f"{cost['bits_per_weight']:.2f}",
        f"{kl['value']:.2g} ± {kl['standard_error']:.1g}",
        f"{change['value']:+.2g} ± {change['standard_error']:.1g}",
        f"{100 * found['top_1_agreement']['value']:.2f} %",
        f"{cost['weight_distortion'] / cost['weight_variance']:.2g}",
        f"{cost['bits_above_bound']:.2f}",
    )
    return f"| {' | '.join(cells)} |"


def main() -> None:
    if find_spec("gptqmodel") is None:
        print("gptqmodel is not installed: pip install '.[worker,gptq]'")
        return
    with tempfile.TemporaryDirectory() as folder:
        host = Host.of_folders(Path(folder), ROOT / "examples" / "models", ROOT / "examples")
        attempt = host.done(job())
        found = [json.loads((host.folder(attempt, f"q{bits}") / "certificate.json").read_text()) for bits in BITS]
    columns = ("bits", "a weight, as stored", "D(trained‖written)", "change of the cross-entropy", "same likeliest token")
    print(f"| {' | '.join((*columns, 'error / variance', 'bits above the bound'))} |")
    print("|---|---|---|---|---|---|---|")
    print("\n".join(map(row, found)))
    print(f"{found[0]['n_tokens']} tokens of {found[0]['n_documents']} held-out texts")


if __name__ == "__main__":
    main()
