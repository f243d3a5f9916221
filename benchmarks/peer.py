"""Beside LLaMA-Factory: the losses of the same model, data, seed, template and arguments, the speed, and the memory.

    python benchmarks/peer.py --peer /path/to/its/venv/bin/llamafactory-cli [--trl FOLDER --repeats 3 --only agreement]

Both sides train in fp32 on one thread of the CPU, each in a process of its own: ours through the pipeline that a worker's child
runs (sides/ours.py), the peer through the function behind its command (sides/theirs.py). Losses are in nats. Speeds are of 9.7
million parameters at 512 tokens, from the first update that a side tells of to the last; tokens/s are medians, the sides in turn.
`--trl` is a folder with the trl that the peer's ppo asks for, which is not the one that it installs; without it ppo is left out.
The processor's own seconds count, so that others at work here do not; those of the clock stand beside them. Memory is the most
that the process held, and how much of that came after its libraries. docs/explanation/peer.md has the figures, and how to install
the peer.

Exits with 1 where a loss differs.
"""

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"
SMALL, TEN_MILLION, WITH_HEAD = "tiny-llama", "ten-million", "with-head"
HELD_OUT_ROWS, UPDATES, TIMED_UPDATES = 60, 45, 8
BLOCK = 512  # tokens of a pt block
FIRST, LATER = 1e-4, 1e-2  # how far losses may be apart: of what nothing random has touched, and of what was trained

Arguments = dict[str, Any]

TRAINING: Arguments = {"do_train": True, "logging_steps": 1, "save_steps": 1000, "seed": 42}
LORA: Arguments = {"finetuning_type": "lora", "lora_rank": 8, "lora_target": "all"}
SFT = TRAINING | LORA | {"stage": "sft", "template": "deepseek", "dataset": "instructions"}
PT = TRAINING | {"stage": "pt", "finetuning_type": "full", "dataset": "texts", "cutoff_len": BLOCK}
# Nothing is drawn, and all the prompts are one batch: the order in which they come is another on each side.
N_PROMPTS = 8
PPO = (
    TRAINING
    | LORA
    | {
        "stage": "ppo",
        "template": "deepseek",
        "dataset": "prompts",
        "cutoff_len": 256,
        "reward_model": WITH_HEAD,
        "reward_model_type": "full",
        "ppo_epochs": 1,
        "do_sample": False,
        "max_new_tokens": 16,
        "per_device_train_batch_size": N_PROMPTS,
        "max_steps": 3,
        "learning_rate": 1e-3,
    }
)
PAIRS = TRAINING | LORA | {"template": "deepseek", "dataset": "pairs", "cutoff_len": 256, "max_steps": 3, "learning_rate": 1e-3}


@dataclass(frozen=True)
class Case:
    """One training that both sides do."""

    name: str
    model: str
    arguments: Arguments
    held_out: str | None = None
    theirs: Arguments = field(default_factory=dict)  # what only the peer has a name for


OF_PPO = Case("ppo lora", WITH_HEAD, PPO)
AGREEMENT: tuple[Case, ...] = (
    Case(
        "sft lora",
        SMALL,
        SFT | {"cutoff_len": 256, "max_steps": UPDATES, "learning_rate": 3e-3, "lr_scheduler_type": "cosine"},
        "held_out",
    ),
    Case("pt full", SMALL, PT | {"per_device_train_batch_size": 4, "max_steps": 3, "learning_rate": 1e-3}),
    Case("rm lora", WITH_HEAD, PAIRS | {"stage": "rm"}),
    Case("dpo lora", SMALL, PAIRS | {"stage": "dpo"}),
)
TIMED = {"per_device_train_batch_size": 4, "max_steps": TIMED_UPDATES, "learning_rate": 1e-3, "cutoff_len": BLOCK}
SPEED = (Case("sft lora", TEN_MILLION, SFT | TIMED | {"dataset": "long"}), Case("pt full", TEN_MILLION, PT | TIMED))


@dataclass(frozen=True)
class Told:
    """What a side said of its training: of each update its loss, its tokens so far and the seconds; held-out losses by update."""

    updates: list[dict[str, float]]
    held_out: dict[str, float]
    libraries_bytes: int  # resident before anything of the training was loaded
    peak_bytes: int

    def tokens_per_second(self, seconds: str) -> float:
        """From the end of the first update to that of the last: what comes before is loading."""
        first, last = self.updates[0], self.updates[-1]
        return (last["tokens"] - first["tokens"]) / (last[seconds] - first[seconds])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", type=Path, help="its llamafactory-cli, or the python beside that")
    parser.add_argument("--trl", type=Path, help="a folder with trl 0.9.6, by pip install --no-deps --target")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", choices=("agreement", "speed"))
    asked = parser.parse_args()
    if asked.peer is None:
        print("There is no peer to compare with: --peer names the llamafactory-cli of an installed LLaMA-Factory.")
        return
    with tempfile.TemporaryDirectory(prefix="finebits-peer-") as folder:
        sides = Sides(Path(folder), asked.peer.absolute().with_name("python"), asked.trl and asked.trl.absolute())
        cases = (*AGREEMENT, OF_PPO) if asked.trl else AGREEMENT
        agrees = asked.only == "speed" or agreement(sides, cases)
        if asked.only != "agreement":
            speed(sides, asked.repeats)
    sys.exit(not agrees)


# -- what is compared ---------------------------------------------------------------------------------------------------


def agreement(sides: "Sides", cases: Iterable[Case]) -> bool:
    print("| loss | ours | LLaMA-Factory | apart | allowed |\n|---|---|---|---|---|")
    rows = [row for case in cases for row in compared(case, sides.ours(case), sides.theirs(case))]
    for name, ours, theirs, allowed in rows:
        apart = abs(ours - theirs)
        print(f"| {name} | {ours:.6f} | {theirs:.6f} | {apart:.1e} | {allowed:g}{'' if apart <= allowed else ' DIFFERS'} |")
    return all(abs(ours - theirs) <= allowed for _, ours, theirs, allowed in rows)


def compared(case: Case, ours: Told, theirs: Told) -> Iterator[tuple[str, float, float, float]]:
    """(what, ours, theirs, how far they may be apart)"""
    part = of_predicted_tokens() if case.arguments["stage"] == "pt" else 1.0
    if case.held_out:
        yield f"{case.name}: held out, before", ours.held_out["0"], theirs.held_out["0"], FIRST
    yield f"{case.name}: update 1", ours.updates[0]["loss"], theirs.updates[0]["loss"] * part, FIRST
    if "score" in ours.updates[0]:
        yield f"{case.name}: mean score, update 1", ours.updates[0]["score"], theirs.updates[0]["score"], FIRST
    last = len(ours.updates) - 1
    yield f"{case.name}: update {last + 1}", ours.updates[last]["loss"], theirs.updates[last]["loss"] * part, LATER
    if case.held_out:
        after = str(UPDATES)
        yield f"{case.name}: held out, after {after}", ours.held_out[after], theirs.held_out[after], LATER


def of_predicted_tokens() -> float:
    """The peer's transformers (5.6) divides the loss of a block by all of its tokens, and the first is predicted by nothing."""
    return BLOCK / (BLOCK - 1)


def speed(sides: "Sides", repeats: int) -> None:
    print(f"\nMedians of {repeats}, ours / LLaMA-Factory = ratio; memory: the most of all.\n")
    print("| training | tokens/s of the processor | tokens/s of the clock | peak memory, MB | without libraries, MB |")
    print("|---|---|---|---|---|")
    for case in SPEED:
        both: tuple[list[Told], list[Told]] = ([], [])
        for _ in range(repeats):
            both[0].append(sides.ours(case))
            both[1].append(sides.theirs(case))
        rates = (ratio(*(medians(told, clock) for told in both)) for clock in ("cpu_seconds", "wall_seconds"))
        memory = ratio(*(max(one.peak_bytes for one in told) / 2**20 for told in both))
        added = ratio(*(max(one.peak_bytes - one.libraries_bytes for one in told) / 2**20 for told in both))
        print(f"| {case.name} | {' | '.join(rates)} | {memory} | {added} |", flush=True)


def medians(told: list[Told], seconds: str) -> float:
    return statistics.median(one.tokens_per_second(seconds) for one in told)


def ratio(ours: float, theirs: float) -> str:
    return f"{ours:.0f} / {theirs:.0f} = {ours / theirs:.2f}"


# -- how the sides are run ----------------------------------------------------------------------------------------------


class Sides:
    """A folder with models and data sets, and either side's training on them."""

    def __init__(self, folder: Path, peers_python: Path, peers_trl: Path | None):
        self._folder = folder
        self._peers_path = [folder / "stand-in", *([peers_trl] if peers_trl else [])]
        self._peers_python = peers_python
        write_data(folder / "data")
        write_models(folder / "models")
        (folder / "stand-in").mkdir()
        (folder / "stand-in" / "torchaudio.py").touch()  # which the peer imports whatever it trains on

    def ours(self, case: Case) -> Told:
        measures = {"dataset": case.held_out, "names": "cross_entropy"} if case.held_out else {"names": ""}
        asked = {
            "arguments": case.arguments | {"model_name_or_path": case.model},
            "more": {"measures": measures, "resources": {"gpus": 0}},
            "models_root": str(self._folder / "models"),
            "datasets_root": str(self._folder),
        }
        return self._run("ours", Path(sys.executable), [ROOT], asked)

    def theirs(self, case: Case) -> Told:
        evaluating = {"eval_dataset": case.held_out, "eval_on_start": True, "eval_strategy": "steps", "eval_steps": UPDATES}
        asked = {
            "model_name_or_path": str(self._folder / "models" / case.model),
            "dataset_dir": str(self._folder / "data"),
            "use_cpu": True,
            "report_to": "none",
            "include_num_input_tokens_seen": "non_padding",
            # in one batch, or it would be the mean of the batches' means
            **({**evaluating, "per_device_eval_batch_size": HELD_OUT_ROWS} if case.held_out else {}),
        }
        if "reward_model" in case.arguments:
            asked["reward_model"] = str(self._folder / "models" / case.arguments["reward_model"])
        if case is OF_PPO:
            unchecked = {"DISABLE_VERSION_CHECK": "1"}
            return self._run("theirs", self._peers_python, self._peers_path, case.arguments | asked | case.theirs, unchecked)
        return self._run("theirs", self._peers_python, self._peers_path[:1], case.arguments | asked | case.theirs)

    def _run(
        self, side: str, python: Path, path: list[Path], asked: Arguments, more: Mapping[str, str] = MappingProxyType({})
    ) -> Told:
        folder = self._folder / side
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        where = {"folder": str(folder)} if side == "ours" else {"output_dir": str(folder / "out")}
        (folder / "asked.json").write_text(json.dumps(asked | where))
        here = {"PYTHONPATH": os.pathsep.join(map(str, path)), "HF_HOME": str(folder / "hub"), "HF_HUB_OFFLINE": "1"}
        alone = {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "CUDA_VISIBLE_DEVICES": ""}
        script = ROOT / "benchmarks" / "sides" / f"{side}.py"
        command = [str(python), str(script), str(folder / "asked.json"), str(folder / "told.json")]
        with (folder / "log.txt").open("w") as log:
            done = subprocess.run(command, env={**os.environ, **here, **alone, **more}, stdout=log, stderr=log, cwd=folder)
        if done.returncode:
            sys.exit(f"{side} failed:\n{(folder / 'log.txt').read_text()[-4000:]}")
        return Told(**json.loads((folder / "told.json").read_text()))


# -- on what ------------------------------------------------------------------------------------------------------------


def write_data(folder: Path) -> None:
    """The example's instructions and preferences, the last of the former held out; and long rows of its sampled language."""
    folder.mkdir()
    instructions = json.loads((EXAMPLES / "data" / "instructions.json").read_text())
    preferences = json.loads((EXAMPLES / "data" / "preferences.json").read_text())
    words = (EXAMPLES / "data" / "markov.txt").read_text().split()
    draw = random.Random(0)

    def text(n_words: int) -> str:
        first = draw.randrange(len(words) - n_words)
        return " ".join(words[first : first + n_words])

    rows = {
        "instructions": instructions[:-HELD_OUT_ROWS],
        "held_out": instructions[-HELD_OUT_ROWS:],
        "pairs": preferences,
        "prompts": instructions[:N_PROMPTS],
        "long": [{"instruction": text(300), "input": "", "output": text(190)} for _ in range(64)],
    }
    for name, values in rows.items():
        (folder / f"{name}.json").write_text(json.dumps(values))
    (folder / "texts.txt").write_text("\n".join(text(400) for _ in range(200)))
    columns = {"prompt": "instruction", "query": "input", "chosen": "chosen", "rejected": "rejected"}
    info: dict[str, Any] = {name: {"file_name": f"{name}.json"} for name in rows}
    info["pairs"] |= {"ranking": True, "columns": columns}
    info["texts"] = {"file_name": "texts.txt", "columns": {"prompt": "text"}}
    (folder / "dataset_info.json").write_text(json.dumps(info))


def write_models(folder: Path) -> None:
    """The example's; the same with a value head, before which the peer is to drop nothing; and one of ten million parameters."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from worker.models import value_head

    shutil.copytree(EXAMPLES / "models" / SMALL, folder / SMALL)
    shutil.copytree(EXAMPLES / "models" / SMALL, folder / WITH_HEAD)
    config_file = folder / WITH_HEAD / "config.json"
    config = json.loads(config_file.read_text())
    config_file.write_text(json.dumps(config | {"summary_dropout_prob": 0.0}))
    torch.manual_seed(0)
    head = value_head.ValueHead(config["hidden_size"])
    torch.nn.init.normal_(head.summary.weight, std=0.2)
    value_head.save(head, folder / WITH_HEAD)
    shutil.copytree(EXAMPLES / "models" / SMALL, folder / TEN_MILLION)
    shape = {"hidden_size": 256, "intermediate_size": 688, "num_hidden_layers": 7, "num_attention_heads": 8}
    special = {name: config[name] for name in ("bos_token_id", "eos_token_id", "pad_token_id", "max_position_embeddings")}
    LlamaForCausalLM(LlamaConfig(vocab_size=8192, **shape, **special)).save_pretrained(folder / TEN_MILLION)


if __name__ == "__main__":
    main()
