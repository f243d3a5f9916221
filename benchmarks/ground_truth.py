"""What the service reports of text whose entropy is known exactly.

    python benchmarks/ground_truth.py [--plot docs/explanation/ground-truth.svg] [--sources iid markov hidden]

Three sources: words drawn one by one, the Markov chain of examples/source.py, and a chain seen through noise. For each, a Llama
with random weights is trained by a job of the whole service, and each of its checkpoints is held against the source itself: the
cross-entropy that the service reports, and the divergence D(source‖model) at every position of the held-out texts, computed here
from the checkpoint's files and the source's own conditional probabilities.

Shapes: D texts of T words, V words, S states. All in bits.

Sources: Cover and Thomas, Elements of Information Theory, 2nd ed. 2006, §2.5 (chain rule of D), §4.2 and §4.5 (entropy rates).
"""

import argparse
import json
import math
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from matplotlib.figure import Figure
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.utils.logging import disable_progress_bar

from service.client import Client
from service.embedded import running
from service.settings import Settings
from worker.information.hidden_markov import hidden_markov_rate_bounds
from worker.information.intervals import Estimate, difference, interval, ratio
from worker.information.processes import stationary_distribution

sys.path.append(str(Path(__file__).parents[1] / "examples"))
import source as markov_source

EOS = "</s>"
# No multiple of a text and its end: in blocks that always begin with a text, a model would learn to count from the block's start
CUTOFF_LEN = 128


@dataclass(frozen=True, eq=False)
class Source:
    """A stationary chain of S states that says a word in each: independent words have one state, a Markov chain one a word."""

    name: str
    words: Sequence[str]
    transitions_SS: np.ndarray
    emissions_SV: np.ndarray
    longest: int  # how long the words of symbols are whose entropies bound the rate

    @property
    def rate_bounds(self) -> tuple[float, float]:
        """Of the entropy rate, in bits a word. Equal where there is nothing hidden."""
        bounds = hidden_markov_rate_bounds(self.transitions_SS, self.emissions_SV, self.longest)
        return float(bounds.lower_N[-1]), float(bounds.upper_N[-1])

    def draw(self, texts: int, T: int, rng: np.random.Generator) -> np.ndarray:
        """[texts, T] places of words. Each text begins in the stationary distribution."""
        words_DT = np.empty((texts, T), dtype=np.int64)
        state_D = _drawn(np.tile(stationary_distribution(self.transitions_SS), (texts, 1)), rng)
        for t in range(T):
            words_DT[:, t] = _drawn(self.emissions_SV[state_D], rng)
            state_D = _drawn(self.transitions_SS[state_D], rng)
        return words_DT

    def conditionals(self, words_DT: np.ndarray) -> np.ndarray:
        """[D, T, V]: P(v | the words of the text before t), by the forward recursion. Rabiner 1989, §III.A."""
        D, T = words_DT.shape
        p_DTV = np.empty((D, T, len(self.words)))
        state_DS = np.tile(stationary_distribution(self.transitions_SS), (D, 1))
        for t in range(T):
            p_DTV[:, t] = state_DS @ self.emissions_SV
            seen_DS = state_DS * self.emissions_SV[:, words_DT[:, t]].T
            state_DS = seen_DS / seen_DS.sum(axis=1, keepdims=True) @ self.transitions_SS
        return p_DTV


def independent() -> Source:
    """Eight words by Zipf's law, p ∝ 1/rank."""
    weights_V = 1 / np.arange(1, 9)
    words = ("one", "two", "three", "four", "five", "six", "seven", "eight")
    return Source("iid", words, np.ones((1, 1)), (weights_V / weights_V.sum())[None, :], longest=1)


def markov() -> Source:
    """The 48 words of examples/source.py, which the demo learns too."""
    chain = markov_source.SOURCE
    transitions_SS = np.array([[chain.transitions[word].get(after, 0.0) for after in chain.words] for word in chain.words])
    return Source("markov", chain.words, transitions_SS, np.eye(len(chain.words)), longest=2)


def hidden() -> Source:
    """Two weathers that last for ten words on average, and four words of which each weather prefers two."""
    transitions_SS = np.array([[0.9, 0.1], [0.1, 0.9]])
    emissions_SV = np.array([[0.6, 0.3, 0.07, 0.03], [0.03, 0.07, 0.3, 0.6]])
    return Source("hidden", ("sun", "warm", "cold", "rain"), transitions_SS, emissions_SV, longest=10)


SOURCES = {"iid": independent, "markov": markov, "hidden": hidden}


@dataclass(frozen=True)
class Training:
    """How much a model of how many dimensions is trained on."""

    texts: int = 10_000
    held_out: int = 200
    T: int = 96
    updates: int = 600
    checkpoints: int = 6
    width: int = 64


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """What the service reported of one, and what is true of it."""

    update: int
    reported: float
    reported_interval: tuple[float, float]
    recomputed: float  # the same cross-entropy, from the checkpoint's own logits in float64
    excess: Estimate  # the cross-entropy less the source's own on the same texts
    divergence: Estimate  # D(source‖model), the mean over all positions of the held-out texts
    divergence_T: np.ndarray  # by position
    cross_entropy_T: np.ndarray  # E −lg model by position, under the source's own conditionals
    entropy_T: np.ndarray  # of the source, given what came before

    @property
    def sampling(self) -> Estimate:
        """What the texts' own luck makes of the difference: excess − divergence, of mean 0 whatever the model is."""
        return difference(self.excess, self.divergence)


@dataclass(frozen=True, eq=False)
class Result:
    """One source's checkpoints, and the floors: its entropy rate, and its own cross-entropy on the held-out texts."""

    source: Source
    rate_bounds: tuple[float, float]
    on_the_text: Estimate
    checkpoints: list[Checkpoint]


def measure(source: Source, training: Training, home: Path, seed: int = 1) -> Result:
    """Trains on the source by a job of a service in `home`, and holds each checkpoint against the source."""
    rng = np.random.default_rng(seed)
    held_out_DT = source.draw(training.held_out, training.T, rng)
    _write_texts(home / "datasets" / "data", source, source.draw(training.texts, training.T, rng), held_out_DT)
    tokenizer = make_model(home / "models" / "tiny", source, training)
    word_ids_V = torch.tensor(tokenizer.convert_tokens_to_ids(list(source.words)))
    p_DTV = source.conditionals(held_out_DT)
    own_DT = -np.log2(np.take_along_axis(p_DTV, held_out_DT[:, :, None], axis=2)[:, :, 0])
    on_the_text = _mean(own_DT)
    settings = Settings(home=home, models_root=home / "models", datasets_root=home / "datasets", port=0)
    checkpoints = []
    with running(settings) as service, Client(service.url) as client:
        job_id = client.submit(job(training))["id"]
        _wait(client, job_id)
        for row in client.metrics(job_id, measure="cross_entropy"):
            if row["checkpoint"] == "base":
                continue
            folder = _download(client, job_id, int(row["checkpoint"]), home / "fetched")
            logp_DTV = log_probabilities(folder, tokenizer.eos_token_id, word_ids_V, held_out_DT)
            reported = row["measures"]["cross_entropy"]
            checkpoints.append(_held_against(int(row["checkpoint"]), reported, p_DTV, logp_DTV, own_DT, held_out_DT))
    return Result(source, source.rate_bounds, on_the_text, checkpoints)


def _held_against(
    update: int, reported: Any, p_DTV: np.ndarray, logp_DTV: np.ndarray, own_DT: np.ndarray, words_DT: np.ndarray
) -> Checkpoint:
    loss_DT = -np.take_along_axis(logp_DTV, words_DT[:, :, None], axis=2)[:, :, 0]
    cross_DT = -(p_DTV * logp_DTV).sum(axis=2)
    entropy_DT = -np.where(p_DTV > 0, p_DTV * np.log2(np.where(p_DTV > 0, p_DTV, 1)), 0).sum(axis=2)
    ratio_DTV = np.where(p_DTV > 0, np.log2(np.where(p_DTV > 0, p_DTV, 1)) - logp_DTV, 0)
    divergence_DT = (p_DTV * ratio_DTV).sum(axis=2)
    return Checkpoint(
        update=update,
        reported=reported["value"],
        reported_interval=tuple(reported["interval"]),
        recomputed=float(loss_DT.mean()),
        excess=difference(_mean(loss_DT), _mean(own_DT)),
        divergence=_mean(divergence_DT),
        divergence_T=divergence_DT.mean(axis=0),
        cross_entropy_T=cross_DT.mean(axis=0),
        entropy_T=entropy_DT.mean(axis=0),
    )


@torch.no_grad()
def log_probabilities(folder: Path, eos: int, word_ids_V: torch.Tensor, words_DT: np.ndarray) -> np.ndarray:
    """[D, T, V] lg of the checkpoint's probabilities, EOS before each text, straight from its logits in float64."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    ids_DT = word_ids_V[torch.from_numpy(words_DT)]
    before_DT = torch.cat([torch.full_like(ids_DT[:, :1], eos), ids_DT[:, :-1]], dim=1)
    parts = [model(part).logits.double().log_softmax(-1)[:, :, word_ids_V] for part in before_DT.split(50)]
    return (torch.cat(parts) / math.log(2)).numpy()


def make_model(folder: Path, source: Source, training: Training) -> PreTrainedTokenizerFast:
    """A tokenizer with a token for each word, and a Llama of random weights."""
    backend = Tokenizer(models.WordLevel({word: place for place, word in enumerate([EOS, *source.words])}, unk_token=EOS))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token=EOS, pad_token=EOS)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    shape = {"hidden_size": training.width, "intermediate_size": 2 * training.width, "num_hidden_layers": 2}
    config = LlamaConfig(
        vocab_size=len(tokenizer), num_attention_heads=4, max_position_embeddings=256, eos_token_id=0, bos_token_id=None, **shape
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return tokenizer


def job(training: Training) -> dict[str, Any]:
    return {
        "model": {"model_name_or_path": "tiny", "disable_gradient_checkpointing": True},
        "data": {"dataset": "texts", "cutoff_len": CUTOFF_LEN, "val_size": 0},
        "finetuning": {"stage": "pt", "finetuning_type": "full"},
        "measures": {"names": "cross_entropy,entropy,kl_from_base", "dataset": "held_out"},
        "training": {
            "per_device_train_batch_size": 12,
            "learning_rate": 3e-3,
            "lr_scheduler_type": "cosine",
            "warmup_ratio": 0.05,
            "max_steps": training.updates,
            "save_steps": training.updates // training.checkpoints,
        },
        "resources": {"gpus": 0},
    }


def draw(results: Sequence[Result]) -> Figure:
    """Above: cross-entropy as reported, and the floor. Below: how far above the source's own, and the exact divergence."""
    figure = Figure(figsize=(4 * len(results), 6.5), layout="constrained")
    axes = figure.subplots(2, len(results), squeeze=False)
    for result, (above, below) in zip(results, axes.T, strict=True):
        at = [checkpoint.update for checkpoint in result.checkpoints]
        low, high = zip(*(checkpoint.reported_interval for checkpoint in result.checkpoints), strict=True)
        above.plot(at, [checkpoint.reported for checkpoint in result.checkpoints], marker=".", label="cross-entropy, reported")
        above.fill_between(at, low, high, alpha=0.3, label="95 % interval")
        above.axhspan(*result.rate_bounds, color="black", alpha=0.9, label="entropy rate")
        above.axhline(result.rate_bounds[1], color="black", linewidth=1)
        above.axhline(result.on_the_text.value, color="black", linewidth=1, linestyle=":", label="the source's own, this text")
        above.set(title=result.source.name, ylabel="bits/word")
        excess = [checkpoint.excess.value for checkpoint in result.checkpoints]
        half_widths = [_ends(checkpoint.excess)[1] - checkpoint.excess.value for checkpoint in result.checkpoints]
        divergence = [checkpoint.divergence.value for checkpoint in result.checkpoints]
        below.errorbar(at, excess, half_widths, fmt="o", markersize=4, capsize=3, label="cross-entropy − the source's own")
        below.plot(at, divergence, marker="x", label="D(source‖model), exact")
        below.axhline(0, color="black", linewidth=1)
        below.set(xlabel="update", ylabel="bits/word")
        for part in (above, below):
            part.grid(alpha=0.3)
            part.legend(fontsize="small")
    return figure


def save(figure: Figure, file: Path) -> None:
    """The same bytes for the same points."""
    with matplotlib.rc_context({"svg.hashsalt": "finebits", "svg.fonttype": "none"}):
        figure.savefig(file, metadata={"Date": None})


def table(result: Result) -> Iterator[str]:
    low, high = result.rate_bounds
    rate = f"{high:.4f}" if high - low < 1e-9 else f"{low:.4f} to {high:.4f}"
    own = f"the source's own cross-entropy on the held-out texts {result.on_the_text.value:.4f}"
    yield f"{result.source.name}: entropy rate {rate} bits a word; {own}"
    yield "| update | cross-entropy, 95 % | above the source's own, 95 % | D(source‖model) |"
    yield "|---|---|---|---|"
    for checkpoint in result.checkpoints:
        ends, above = checkpoint.reported_interval, _ends(checkpoint.excess)
        yield (
            f"| {checkpoint.update} | {checkpoint.reported:.4f} ({ends[0]:.4f} to {ends[1]:.4f}) "
            f"| {checkpoint.excess.value:.4f} ({above[0]:.4f} to {above[1]:.4f}) | {checkpoint.divergence.value:.4f} |"
        )


def _mean(bits_DT: np.ndarray) -> Estimate:
    D, T = bits_DT.shape
    return ratio(bits_DT.sum(axis=1), np.full(D, T))


def _ends(estimate: Estimate) -> tuple[float, float]:
    ends = interval(estimate)
    assert ends is not None, "there are many texts"
    return ends


def _drawn(p_DV: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One place of each row, by its probabilities."""
    below_DV = p_DV.cumsum(axis=1)
    return (rng.random((len(p_DV), 1)) * below_DV[:, -1:] >= below_DV).sum(axis=1)


def _write_texts(folder: Path, source: Source, train_DT: np.ndarray, held_out_DT: np.ndarray) -> None:
    folder.mkdir(parents=True)
    parts = {"texts": train_DT, "held_out": held_out_DT}
    for name, words_DT in parts.items():
        lines = (" ".join(source.words[place] for place in row) for row in words_DT)
        (folder / f"{name}.txt").write_text("\n".join(lines))
    info = {name: {"file_name": f"{name}.txt", "columns": {"prompt": "text"}} for name in parts}
    (folder / "dataset_info.json").write_text(json.dumps(info))


def _wait(client: Client, job_id: str) -> None:
    while (found := client.job(job_id))["state"] not in ("succeeded", "failed", "cancelled"):
        time.sleep(0.2)
    if found["state"] != "succeeded":
        raise RuntimeError(f"{found['reason']}: {found['sentence']}")


def _download(client: Client, job_id: str, update: int, folder: Path) -> Path:
    """The files of one checkpoint that a model is loaded from."""
    target = folder / str(update)
    target.mkdir(parents=True)
    for artifact in client.artifacts(job_id):
        *_, parent, file = artifact["name"].split("/")
        if parent == f"checkpoint-{update}" and file in ("config.json", "model.safetensors"):
            client.download(job_id, artifact["name"], target)
    return target


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plot", type=Path, help="where to write the picture")
    parser.add_argument("--sources", nargs="+", choices=SOURCES, default=list(SOURCES))
    asked = parser.parse_args()
    disable_progress_bar()
    os.environ["OMP_NUM_THREADS"] = "1"
    results = []
    for name in asked.sources:
        with tempfile.TemporaryDirectory(prefix="fb-bench-") as home:
            results.append(measure(SOURCES[name](), Training(), Path(home)))
        print("\n".join(table(results[-1])), flush=True)
    if asked.plot:
        save(draw(results), asked.plot)


if __name__ == "__main__":
    main()
