"""The Triton backend, in its interpreter and through its compiler. Its speed: `benchmarks/vocabulary_speed.py --gpu`."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.worker.information.vocabulary.definitions import EVERYTHING, REGIMES, assert_close, by_definition, logits
from worker.information.vocabulary.tokens import token_statistics_from_logits

HERE = Path(__file__).parent
NAMES = ("nll", "entropy", *EVERYTHING)


def run(script, *arguments, **environment):
    """A Python process with this checkout on its path; what it printed."""
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)} | environment
    done = subprocess.run([sys.executable, HERE / script, *arguments], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def case(regime, N=3, V=5_000, dtype=torch.float32, columns=None):
    """Some tokens over tiles that are no whole number of blocks; `columns` None: one launch over all of them."""
    z, w, y = logits(regime, N, V, dtype=dtype)
    return {"logits_NV": z, "targets_N": y, "base_logits_NV": w, "want": EVERYTHING, "columns": columns}


def with_absent_tokens():
    """Rows in which both have some tokens not, or only the base, or only the model; and a whole tile that no row has."""
    made = case("ordinary", N=6, columns=1_700)
    z, w, y = made["logits_NV"], made["base_logits_NV"], made["targets_N"]
    z[:4, ::3] = w[:2, ::3] = w[4:, ::7] = -torch.inf
    z[:, :1_700] = w[:, :1_700] = -torch.inf
    z[torch.arange(6), y] = w[torch.arange(6), y] = 1.0
    return made


def with_no_number():
    made = case("ordinary", columns=1_700)
    made["logits_NV"][1, 4_000] = torch.nan
    return made


def from_hidden_states():
    generator = torch.Generator().manual_seed(3)
    hidden, base_hidden = torch.randn(9, 16, generator=generator), torch.randn(9, 24, generator=generator)
    return {
        "hidden_ND": hidden,
        "head": {"weight_VD": torch.randn(800, 16, generator=generator), "scale": 0.5, "softcap": 7.0, "vocabulary": 777},
        "base_hidden_ND": base_hidden,
        "base_head": {"weight_VD": torch.randn(800, 24, generator=generator), "vocabulary": 777},
        "targets_N": torch.randint(0, 777, (9,), generator=generator),
        "want": EVERYTHING,
        "rows": 4,
        "columns": 300,
    }


CASES = {regime: case(regime) for regime in REGIMES} | {
    "in tiles": case("ordinary", columns=1_700),
    "bf16": case("ordinary", dtype=torch.bfloat16),
    "fp16 in tiles": case("ordinary", dtype=torch.float16, columns=2_100),
    "128256": case("flat", N=2, V=128_256, dtype=torch.bfloat16),
    "absent tokens": with_absent_tokens(),
    "no number": with_no_number(),
    "one token": case("ordinary", V=1),
    "a last tile of one": case("ordinary", V=2_049, columns=2_048),
    "no tokens": case("ordinary", N=0),
    "hidden states": from_hidden_states(),
}


@pytest.fixture(scope="module")
def interpreted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("triton")
    torch.save(CASES, folder / "cases")
    run("interpreted.py", folder / "cases", folder / "results", TRITON_INTERPRET="1")
    return torch.load(folder / "results", weights_only=False)


@pytest.mark.parametrize("name", [name for name in CASES if name not in ("absent tokens", "no number", "hidden states")])
def test_every_statistic_agrees_with_float64(interpreted, name):
    given = CASES[name]
    assert_close(interpreted[name], by_definition(given["logits_NV"], given["targets_N"], given["base_logits_NV"]), NAMES)


def test_tokens_without_probability(interpreted):
    given = CASES["absent tokens"]
    expected = by_definition(given["logits_NV"], given["targets_N"], given["base_logits_NV"])
    assert [list(map(float, expected[name]))[i] == float("inf") for name, i in (("kl_from_base", 3), ("kl_to_base", 5))] == [
        True
    ] * 2
    assert_close(interpreted["absent tokens"], expected, NAMES)


def test_a_logit_that_is_no_number_is_seen_and_only_in_its_row(interpreted):
    for name in ("nll", "entropy", "varentropy", "kl_from_base", "kl_to_base", "renyi_entropy_2", "jensen_shannon"):
        finite = torch.as_tensor(interpreted["no number"][name]).isfinite().tolist()
        assert finite == [True, False, True], name


def test_from_hidden_states_tile_by_tile(interpreted):
    given = CASES["hidden states"]
    z = 7 * torch.tanh(0.5 * (given["hidden_ND"] @ given["head"]["weight_VD"].T) / 7)[:, :777]
    w = (given["base_hidden_ND"] @ given["base_head"]["weight_VD"].T)[:, :777]
    assert_close(interpreted["hidden states"], by_definition(z, given["targets_N"], w), NAMES)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", [name for name in CASES if name not in ("absent tokens", "no number", "hidden states")])
@pytest.mark.parametrize("want", [EVERYTHING, ()], ids=["everything", "nll and entropy"])
def test_what_is_compiled_agrees_with_float64_on_a_gpu(name, want):
    given = CASES[name]
    z, w, y = (given[part].cuda() for part in ("logits_NV", "base_logits_NV", "targets_N"))
    made = token_statistics_from_logits(z, y, w if want else None, want=want, columns=given["columns"], backend="triton")
    expected = by_definition(given["logits_NV"], given["targets_N"], given["base_logits_NV"])
    found = {statistic: bits for statistic, bits in vars(made).items() if bits is not None}
    assert_close(found, expected, NAMES if want else ("nll", "entropy"))


def test_the_kernel_compiles_for_hopper_with_its_sums_in_registers(tmp_path):
    made = json.loads(run("compiled.py", TRITON_CACHE_DIR=str(tmp_path), TRITON_DEFAULT_FP_FUSION="1"))
    assert made.keys() == {"job", "job with a base", "everything"}
    for variant, usage in made.items():
        assert re.search(r"STACK:0 ", usage), f"{variant} spills: {usage}"
