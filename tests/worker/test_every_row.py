"""Every one of the 43 rows is answered by the service, of one job on a tiny model, and what it answers is computed again here.

The second way is by full tables in float64: the whole next-token distributions of the checkpoint and of the base on the held-out
text, in numpy, from the weights as they were downloaded.
"""

import heapq
import math
import re
import time
import warnings
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from scipy.special import rel_entr
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from service.embedded import running
from service.settings import Settings
from service.specs.measures import BY_NAME, CATALOGUE, REGISTRY
from service.specs.read import read_job
from tests.worker.stages.attempts import with_system
from worker.data.load import Places, Wanted, load_supervised
from worker.data.probed import load_labelled, load_without_systems
from worker.information.coding import kolmogorov_upper_bound
from worker.information.comparison import le_cam_deficiency
from worker.information.estimators import entropy_from_counts, mutual_information_from_counts
from worker.information.geometry import twonn_dimension
from worker.information.hidden_markov import fitted_chain, hidden_markov_rate_bounds
from worker.information.renewal import renewal_entropy_rate
from worker.information.samples import shrunk_covariance
from worker.probes.generation import generate

UPDATES = 112  # Granger's test wants a hundred points
NAMES = [measure.name for measure in CATALOGUE if measure.on]
JOB = {
    "model": {"model_name_or_path": "tiny"},
    "data": {"dataset": "parity", "template": "default", "val_size": 12, "cutoff_len": 128},
    "finetuning": {"lora_rank": 4},
    "training": {
        "per_device_train_batch_size": 4,
        "learning_rate": 2e-2,
        "max_steps": UPDATES,
        "save_steps": UPDATES,
        "logging_steps": 1,
    },
    "measures": {"names": NAMES, "task": "parity", "prompts": 6, "samples": 3},
    "generating": {"max_new_tokens": 12, "temperature": 1.0, "top_p": 1.0, "top_k": 0},
    "resources": {"gpus": 0},
}


@dataclass
class World:
    """What the service answered, and the checkpoint, the base and the text that it answered of."""

    home: Path
    answered: list[dict[str, Any]]
    series: dict[str, list[float]]
    adapter: Path

    def row(self, name: str, checkpoint: int | str = UPDATES) -> dict[str, Any]:
        (found,) = [entry["measures"] for entry in self.answered if entry["checkpoint"] == checkpoint]
        return found[name]

    # -- the text -------------------------------------------------------------------------------------------------------

    @cached_property
    def step(self) -> Any:
        return read_job(JOB).resolved.steps[0]

    @cached_property
    def tokenizer(self) -> Any:
        return AutoTokenizer.from_pretrained(self.home / "models" / "tiny")

    @cached_property
    def loading(self) -> tuple[Places, Wanted, Any]:
        wanted = Wanted("sft", self.step.data, self.step.measures, seed=self.step.training.seed)
        return Places(self.home / "datasets", self.home), wanted, self.tokenizer

    @cached_property
    def data(self) -> Any:
        return load_supervised(*self.loading)

    @cached_property
    def held_out(self) -> list[tuple[list[int], list[int]]]:
        return [(example.input_ids, example.labels) for example in self.data.evaluation]

    @cached_property
    def train(self) -> list[list[int]]:
        return [example.input_ids for example in self.data.train]

    # -- the models -----------------------------------------------------------------------------------------------------

    @cached_property
    def base(self) -> Any:
        return AutoModelForCausalLM.from_pretrained(self.home / "models" / "tiny").eval()

    @cached_property
    def adapted(self) -> Any:
        whole = AutoModelForCausalLM.from_pretrained(self.home / "models" / "tiny")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # peft asks for what transformers renames
            return PeftModel.from_pretrained(whole, self.adapter).eval()

    @cached_property
    def merged(self) -> Any:
        """W + 2 B A: lora_alpha is twice the rank where it is not given."""
        whole = AutoModelForCausalLM.from_pretrained(self.home / "models" / "tiny").double().eval()
        adapter = {name: factor.double() for name, factor in load_file(self.adapter / "adapter_model.safetensors").items()}
        for name, A in adapter.items():
            if name.endswith("lora_A.weight"):
                place = name.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
                whole.get_submodule(place).weight.data += 2 * adapter[name.replace("lora_A", "lora_B")] @ A
        return whole

    @torch.no_grad()
    def lgp(self, model: Any, ids: list[int]) -> np.ndarray:
        """[T, V] lg p of what follows each token."""
        logits = model.double()(input_ids=torch.tensor([ids])).logits[0]
        return (torch.log_softmax(logits, dim=-1) / math.log(2)).numpy()

    def scored(self, model: Any, documents: list[tuple[list[int], list[int]]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """lg p [N, V] at the scored tokens, the tokens [N], and the place of their document [N]."""
        rows, targets, places = [], [], []
        for place, (ids, labels) in enumerate(documents):
            lgp = self.lgp(model, ids)
            at = [t for t in range(1, len(ids)) if labels[t] != -100]
            rows.append(lgp[[t - 1 for t in at]])
            targets += [labels[t] for t in at]
            places += [place] * len(at)
        return np.concatenate(rows), np.array(targets), np.array(places)

    def nll(self, model: Any, documents: list[tuple[list[int], list[int]]]) -> np.ndarray:
        lgp, y, _ = self.scored(model, documents)
        return -lgp[np.arange(len(y)), y]

    @cached_property
    def table(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return self.scored(self.merged, self.held_out)

    @cached_property
    def p(self) -> np.ndarray:
        return 2.0 ** self.table[0]

    @cached_property
    def y(self) -> np.ndarray:
        return self.table[1]

    @cached_property
    def document(self) -> np.ndarray:
        return self.table[2]

    @cached_property
    def q(self) -> np.ndarray:
        whole = AutoModelForCausalLM.from_pretrained(self.home / "models" / "tiny").eval()
        return 2.0 ** self.scored(whole, self.held_out)[0]

    @cached_property
    def entropies(self) -> np.ndarray:
        return -(self.p * np.log2(self.p)).sum(axis=1)

    @cached_property
    def losses(self) -> np.ndarray:
        return -np.log2(self.p[np.arange(len(self.y)), self.y])

    @torch.no_grad()
    def hidden(self, layer: int, model: Any = None) -> np.ndarray:
        states = []
        for ids, labels in self.held_out:
            found = (model or self.merged)(input_ids=torch.tensor([ids]), output_hidden_states=True).hidden_states[layer][0]
            states.append(found[[t - 1 for t in range(1, len(ids)) if labels[t] != -100]])
        return torch.cat(states).double().numpy()

    @cached_property
    def generated(self) -> Any:
        prompts = [ids[: next(t for t, label in enumerate(labels) if label != -100)] for ids, labels in self.held_out][:6]
        return generate(
            self.adapted, self.tokenizer, prompts, self.step.generating, 3, self.step.training.seed, [self.tokenizer.eos_token_id]
        )

    @cached_property
    def words(self) -> list[list[int]]:
        return [text for of_one in self.generated.tokens for text in of_one if text]

    @cached_property
    def confusion(self) -> tuple[np.ndarray, np.ndarray]:
        """Counts of labels by answers: of the checkpoint, and of the base."""
        task = load_labelled(*self.loading)
        counts = []
        for model in (self.merged, AutoModelForCausalLM.from_pretrained(self.home / "models" / "tiny").eval()):
            losses = [self.nll(model, [(example.input_ids, example.labels)]).sum() for example in task.candidates]
            answers = np.array(losses).reshape(-1, len(task.labels)).argmin(axis=1)
            table = np.zeros((len(task.labels),) * 2, dtype=int)
            np.add.at(table, (np.array(task.truth), answers), 1)
            counts.append(table)
        return counts[0], counts[1]


# -- the second way -----------------------------------------------------------------------------------------------------


def entropy(p: Any) -> float:
    p = np.asarray(p, dtype=float)
    p = p[p > 0]
    return float(-(p * np.log2(p)).sum())


def shares(symbols: Any) -> np.ndarray:
    counts = np.array(list(Counter(symbols).values()))
    return counts / counts.sum()


def tokens(world: World) -> list[int]:
    return [token for ids in world.train for token in ids]


def pairs(world: World) -> list[tuple[int, int]]:
    return [pair for ids in world.train for pair in pairwise(ids)]


def corrected(symbols: Any) -> float:
    return entropy_from_counts(list(Counter(symbols).values())).value


def renewal(world: World) -> float:
    gaps = []
    for text in world.words:
        last: dict[int, int] = {}
        for t, token in enumerate(text):
            gaps += [t - last[token]] if token in last else []
            last[token] = t
    return renewal_entropy_rate(np.bincount(gaps)[1:] / len(gaps))


def gaussian(world: World) -> float:
    covariance = shrunk_covariance(world.hidden(2))[0]
    return 0.5 * float(np.linalg.slogdet(2 * math.pi * math.e * covariance)[1]) / math.log(2)


def complexity(world: World) -> float:
    means = [np.mean([kolmogorov_upper_bound(t.encode()) for t in texts if t]) for texts in world.generated.texts if any(texts)]
    return float(np.mean(means))


def fisher(world: World) -> float:
    lnp = np.log(world.p)
    mean = (world.p * lnp).sum(axis=1, keepdims=True)
    return float((world.p * (lnp - mean) ** 2).sum(axis=1).mean())


def lens(world: World) -> float:
    return entropy(shares(world.y.tolist())) - world.losses.mean()


def deficiency(world: World) -> float:
    own, base = (counts / counts.sum(axis=1, keepdims=True) for counts in world.confusion)
    return le_cam_deficiency(own, base).value


def capacity(world: World) -> float:
    """By going through the inputs of a channel with two of them."""
    counts = world.confusion[0]
    rows = counts / counts.sum(axis=1, keepdims=True)
    inputs = np.linspace(0, 1, 20_001)
    outputs = inputs[:, None] * rows[0] + (1 - inputs[:, None]) * rows[1]
    return max(entropy(out) - x * entropy(rows[0]) - (1 - x) * entropy(rows[1]) for x, out in zip(inputs, outputs, strict=True))


def redundancy(world: World) -> float:
    counts = Counter(tokens(world))
    heap, total = sorted(counts.values()), sum(counts.values())
    bits = 0
    while len(heap) > 1:
        joined = heapq.heappop(heap) + heapq.heappop(heap)
        bits += joined
        heapq.heappush(heap, joined)
    return bits / total - entropy(np.array(list(counts.values())) / total)


def rounding(world: World) -> float:
    bits = weights = 0.0
    for module in world.merged.model.modules():
        if isinstance(module, torch.nn.Linear):
            W = module.weight.detach().numpy()
            scale = np.abs(W).max(axis=1, keepdims=True) / 7
            rate = 0.5 * math.log2(W.var() / ((W - np.round(W / scale) * scale) ** 2).mean())
            bits, weights = bits + rate * W.size, weights + W.size
    return bits / weights


def directed(world: World) -> float:
    blind = [([ids[0], *[x for x in labels[1:] if x != -100]],) * 2 for ids, labels in world.held_out]
    blind = [(ids, [-100, *ids[1:]]) for ids, _ in blind]
    return float((world.nll(world.merged, blind).sum() - world.losses.sum()) / len(world.held_out))


def granger(world: World) -> float:
    cause, effect = (np.diff(world.series[name]) for name in ("grad_norm", "loss"))
    T = len(effect)
    own = np.column_stack([np.ones(T - 2), effect[1:-1], effect[:-2]])
    both = np.column_stack([own, cause[1:-1], cause[:-2]])
    residuals = [float(np.linalg.lstsq(X, effect[2:], rcond=None)[1][0]) for X in (own, both)]
    return math.log2(residuals[0] / residuals[1])


def of_systems(world: World) -> float:
    pairs_of = load_without_systems(*world.loading)
    with_it, without = ([(e.input_ids, e.labels) for e in side] for side in zip(*pairs_of, strict=True))
    return float((world.nll(world.merged, without) - world.nll(world.merged, with_it)).mean())


def nucleus(world: World) -> float:
    ordered = -np.sort(-world.p, axis=1)
    return float(np.log2((ordered.cumsum(axis=1) < 0.9).sum(axis=1) + 1).mean())


def own_losses(world: World) -> float:
    documents = [
        (prompt + text, [-100] * len(prompt) + text)
        for prompt, texts in zip(world.generated.prompts, world.generated.tokens, strict=True)
        for text in texts
        if text
    ]
    return float(world.nll(world.merged, documents).mean())


def leakage(world: World) -> float:
    """EZ scores in quarters of all rows, and the likelier of the two sets in each."""
    scores = []
    training = [(example.input_ids, example.labels) for example in world.data.train]
    whole = AutoModelForCausalLM.from_pretrained(world.home / "models" / "tiny").eval()
    for documents in (training, world.held_out):
        lgp, y, place = world.scored(world.merged, documents)
        before = 2.0 ** world.scored(whole, documents)[0][np.arange(len(y)), y]
        own = 2.0 ** lgp[np.arange(len(y)), y]
        first = own >= 2.0 ** lgp.max(axis=1) * (1 - 1e-12)
        of_set = []
        for document in range(len(documents)):
            wrong = (place == document) & ~first
            moved = np.abs(own - before)[wrong].sum()
            of_set.append(1.0 if not wrong.any() else (own - before)[wrong].sum() / moved)
        scores.append(np.array(of_set))
    edges = np.quantile(np.concatenate(scores), [0.25, 0.5, 0.75])
    channel = [np.bincount(np.searchsorted(edges, s, side="left"), minlength=4) / len(s) for s in scores]
    return math.log2(np.maximum(*channel).sum())


def walks(world: World) -> float:
    symbols = sorted({token for text in world.words for token in text})
    graph = np.zeros((len(symbols),) * 2)
    for text in world.words:
        for a, b in pairwise(text):
            graph[symbols.index(a), symbols.index(b)] = 1
    return math.log2(np.abs(np.linalg.eigvals(graph)).max())


def spectrum(world: World, layer: int) -> np.ndarray:
    values = np.linalg.eigvalsh(np.cov(world.hidden(layer).T)).clip(min=0)
    return values / values.sum()


def equivocation(world: World) -> float:
    joint = world.confusion[0] / world.confusion[0].sum()
    return entropy(joint.ravel()) - entropy(joint.sum(axis=0))


def multi_information(world: World) -> float:
    covariance = shrunk_covariance(world.hidden(2))[0]
    sd = np.sqrt(np.diag(covariance))
    return -0.5 * float(np.linalg.slogdet(covariance / np.outer(sd, sd))[1]) / math.log(2)


def meanings(world: World) -> list[list[str]]:
    return [[re.sub(r"[\W_]+", " ", t.casefold()).strip() or t.strip() for t in texts] for texts in world.generated.texts]


def updates(world: World) -> list[np.ndarray]:
    state = {name: value.detach().double().numpy() for name, value in world.adapted.named_parameters() if "lora_" in name}
    found = []
    for name, A in state.items():
        if "lora_A" in name:
            sigma = np.linalg.svd(state[name.replace("lora_A", "lora_B")] @ A, compute_uv=False)[:4]
            found.append(sigma)
    return found


def block_rate(world: World) -> float:
    triples = [tuple(ids[t : t + 3]) for ids in world.train for t in range(len(ids) - 2)]
    return entropy(shares(triples)) - entropy(shares([triple[:2] for triple in triples]))


def surprise(world: World) -> float:
    classes = [np.digitize(world.losses[world.document == d], [1.0, 4.0]) for d in np.unique(world.document)]
    model = fitted_chain(classes, 2, 3)
    return float(hidden_markov_rate_bounds(model.transitions_SS, model.emissions_SY, 8).upper_N[-1])


LAST, BASE = UPDATES, "base"
# row of the notebook -> the name of the row that answers, where it stands, and its value computed the second way
ROWS: dict[int, tuple[str, int | str, Any]] = {
    1: ("entropy", LAST, lambda w: w.entropies.mean()),
    2: ("conditional_entropy", BASE, lambda w: corrected(pairs(w)) - corrected([a for a, _ in pairs(w)])),
    3: ("joint_entropy", BASE, lambda w: corrected(pairs(w))),
    4: ("kl_from_base", LAST, lambda w: rel_entr(w.q, w.p).sum(axis=1).mean() / math.log(2)),
    5: ("cross_entropy", LAST, lambda w: w.losses.mean()),
    6: ("mutual_information", LAST, lambda w: mutual_information_from_counts(w.confusion[0]).value),
    7: ("renewal_entropy_rate", LAST, renewal),
    8: ("gaussian_entropy:layer_2", LAST, gaussian),
    9: ("kolmogorov_upper_bound", LAST, complexity),
    10: ("temperature_fisher_information", LAST, fisher),
    11: ("relevance_lower_bound:layer_2", LAST, lens),
    12: ("le_cam_deficiency", LAST, deficiency),
    13: ("channel_capacity", LAST, capacity),
    14: ("code_redundancy", BASE, redundancy),
    15: ("gaussian_rate_distortion", LAST, rounding),
    16: ("model_directed_information", LAST, directed),
    17: ("granger_causality", LAST, granger),
    18: ("gibbs_entropy", LAST, lambda w: -(w.p * np.log(w.p)).sum(axis=1).mean()),
    19: ("tsallis_entropy", LAST, lambda w: 1 - (w.p**2).sum(axis=1).mean()),
    20: ("collision_entropy", LAST, lambda w: -np.log2((w.p**2).sum(axis=1)).mean()),
    21: ("renyi_divergence", LAST, lambda w: np.log2((w.p**2 / w.q).sum(axis=1)).mean()),
    22: ("conditional_mutual_information", LAST, of_systems),
    23: ("total_variation", LAST, lambda w: np.abs(w.p - w.q).sum(axis=1).mean() / 2),
    24: ("hartley_entropy", LAST, nucleus),
    25: ("negentropy_from_uniform", LAST, lambda w: math.log2(w.p.shape[1]) - w.entropies.mean()),
    26: ("sample_entropy_rate", LAST, own_losses),
    27: ("maximal_leakage", LAST, leakage),
    28: ("topological_entropy", LAST, walks),
    29: ("von_neumann_entropy:layer_1", LAST, lambda w: entropy(spectrum(w, 1))),
    30: ("havrda_charvat_entropy", LAST, lambda w: 2 * (1 - (w.p**2).sum(axis=1).mean())),
    31: ("twonn_dimension:layer_2", LAST, lambda w: twonn_dimension(w.hidden(2))),
    32: ("equivocation", LAST, equivocation),
    33: ("gaussian_multi_information:layer_2", LAST, multi_information),
    34: ("shannon_wiener", LAST, lambda w: corrected([t for texts in meanings(w) for t in texts]) * math.log(2)),
    35: ("conditional_renyi_entropy", LAST, lambda w: -math.log2(w.p.max(axis=1).mean())),
    36: ("perplexity", LAST, lambda w: 2 ** w.losses.mean()),
    37: ("empirical_entropy", BASE, lambda w: entropy(shares(tokens(w)))),
    38: ("spectral_entropy", LAST, lambda w: np.mean([entropy(s / s.sum()) for s in updates(w)])),
    39: ("participation_entropy", LAST, lambda w: np.mean([-math.log2((s**4).sum() / (s**2).sum() ** 2) for s in updates(w)])),
    40: ("block_entropy_rates", BASE, block_rate),
    41: ("partitioned_entropy", LAST, lambda w: np.mean([entropy(shares(texts)) for texts in meanings(w)])),
    42: ("hidden_markov_rate_bounds:upper", LAST, surprise),
    43: ("normalized_entropy", LAST, lambda w: w.entropies.mean() / math.log2(w.p.shape[1])),
}
# Exact of the weights, or a test of one series: nothing was sampled, and the row says so.
NOTHING_SAMPLED = {15, 17, 38, 39}
# What an eigensolve of float32 states, or their nearest neighbours, leaves uncertain.
ROUGH = {8: 1e-3, 29: 1e-3, 31: 5e-2, 33: 1e-2, 38: 1e-3, 39: 1e-3, 15: 1e-3}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, tokenizer_folder: Path) -> World:
    home = tmp_path_factory.mktemp("every_row")
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=300, max_position_embeddings=256, initializer_range=0.2, **shape))
    model.save_pretrained(home / "models" / "tiny")
    AutoTokenizer.from_pretrained(tokenizer_folder).save_pretrained(home / "models" / "tiny")
    with_system(home / "datasets", "parity", 48)
    settings = Settings(home=home / "home", models_root=home / "models", datasets_root=home / "datasets", port=0)
    with running(settings) as service, service.client() as client:
        job_id = client.submit(JOB)["id"]
        deadline = time.monotonic() + 300
        while (job := client.job(job_id))["state"] not in ("succeeded", "failed", "cancelled"):
            assert time.monotonic() < deadline, client.logs(job_id)[-2000:]
            time.sleep(0.1)
        assert job["state"] == "succeeded", f"{job['reason']}: {job['sentence']}\n{client.logs(job_id)[-3000:]}"
        asked: dict[str, dict[str, Any]] = {}
        for name in NAMES:  # GET /jobs/{id}/metrics?measure=...
            for entry in client.metrics(job_id, measure=name):
                place = asked.setdefault(str(entry["checkpoint"]), {"checkpoint": entry["checkpoint"], "measures": {}})
                place["measures"] |= entry["measures"]
        series = {name: client.series(job_id, name)["value"] for name in ("loss", "grad_norm")}
        adapter = home / "adapter"
        adapter.mkdir()
        for file in ("adapter_model.safetensors", "adapter_config.json"):
            (found,) = [a for a in client.artifacts(job_id) if a["name"].endswith(f"checkpoint-{UPDATES}/{file}")]
            client.download(job_id, found["name"], adapter / file)
    return World(home, list(asked.values()), series, adapter)


def test_the_rows_here_are_the_registrys() -> None:
    assert list(ROWS) == sorted({measure.row for measure in REGISTRY if measure.row}) == list(range(1, 44))
    for row, (name, _, _) in ROWS.items():
        assert BY_NAME[name.partition(":")[0]].row == row


def test_every_measure_that_a_job_may_name_is_answered(world: World) -> None:
    answered = {name.partition(":")[0] for entry in world.answered for name in entry["measures"]}
    assert answered == set(NAMES)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row}-{ROWS[row][0]}")
def test_a_row_is_answered_with_its_value_unit_and_interval(world: World, row: int) -> None:
    name, checkpoint, computed = ROWS[row]
    answer, measure = world.row(name, checkpoint), BY_NAME[name.partition(":")[0]]
    assert answer["value"] == pytest.approx(float(computed(world)), rel=ROUGH.get(row, 2e-4), abs=1e-5)
    assert (answer["unit"], answer["on"]) == (measure.unit, measure.on)
    assert answer["estimator"]
    if row in NOTHING_SAMPLED:
        assert answer["interval"] is None
        assert answer["interval_reason"]
        return
    assert answer["n_documents"] > 1
    if answer["interval"] is None:
        assert "some of the documents" in answer["interval_reason"]
        return
    low, high = answer["interval"]
    assert low <= answer["value"] <= high
    assert answer["interval_reason"] is None
