"""How fast one pass over the vocabulary is, and how little memory it takes: beside F.cross_entropy, TRL's form and verl's.

    python benchmarks/vocabulary_speed.py [--tokens 512 --vocabulary 32000 --rounds 7 --threads 2]
    python benchmarks/vocabulary_speed.py --memory
    python benchmarks/vocabulary_speed.py --gpu [--tokens 16384 --vocabulary 128256 --width 4096]

All take the same fp32 logits (bf16 on the GPU), alternate within each round, and are reported by their median. TRL's is its own
`entropy_from_logits` and `selective_log_softmax`. verl's is written out below. F.cross_entropy, flattened and by token, makes the
NLL alone. --memory takes the peak resident memory of 4096 × 32000 fp32 logits, in a fresh process for each set of statistics.
--gpu holds the Triton kernel against the time to read the logits once, TRL's fused kernel, and eager torch.
"""

import argparse
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import psutil
import torch
import torch.nn.functional as F
from trl.trainer.utils import entropy_from_logits, selective_log_softmax

from worker.information.vocabulary.head import Head
from worker.information.vocabulary.tokens import token_statistics, token_statistics_from_logits

OF_MODEL = (
    "varentropy",
    "min_entropy",
    "renyi_entropy_2",
    "renyi_entropy_half",
    "tsallis_entropy_2",
    "brier_score",
    "target_rank",
    "mass_above_target",
    "min_k_plus_plus",
    "temperature_fisher_information",
)
DIVERGENCES = ("kl_from_base", "kl_to_base")
OF_BASE = ("base_nll", "base_entropy", *DIVERGENCES, "bhattacharyya_coefficient", "renyi_divergence_2", "total_variation_at_most")
SETS: dict[str, tuple[bool, tuple[str, ...]]] = {  # whether there is a base, and what is wanted beside NLL and entropy
    "NLL and entropy": (False, ()),
    "all of one model": (False, OF_MODEL),
    "NLL, entropy, both KLs": (True, DIVERGENCES),
    "all of one pass": (True, (*OF_MODEL, *OF_BASE)),
}
MEMORY_SHAPE = (4096, 32_000)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int)
    parser.add_argument("--vocabulary", type=int)
    parser.add_argument("--width", type=int, default=4096, help="of the hidden states, with --gpu")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2, help="of torch, on the CPU")
    parser.add_argument("--bandwidth", type=float, default=4.3, help="TB/s of the GPU's memory, for the floor; an H200's is 4.3")
    parser.add_argument("--tflops", type=float, default=790, help="bf16 TFLOP/s of the GPU, for the floor; an H200's is 790")
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--memory-of", choices=SETS, help=argparse.SUPPRESS)
    parser.add_argument("--gpu", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.memory_of:
        print_memory_of(arguments.memory_of)
    elif arguments.memory:
        compare_memory(arguments.threads)
    elif arguments.gpu:
        compare_on_gpu(arguments)
    else:
        compare_on_cpu(arguments.tokens or 512, arguments.vocabulary or 32_000, arguments.rounds)


# -- on the CPU --------------------------------------------------------------------------------------------------------


def compare_on_cpu(N: int, V: int, rounds: int) -> None:
    z, w, y = logits(N, V, torch.device("cpu"), torch.float32)
    rivals = {
        "F.cross_entropy": lambda: F.cross_entropy(z, y, reduction="none"),
        "TRL": lambda: trl(z, y),
        "verl": lambda: verl(z, y),
    }
    ours = {name: a_pass(z, w, y, *of_set) for name, of_set in SETS.items()}
    seconds = medians(rivals | ours, rounds)
    print(f"{N} x {V} fp32 logits, {torch.get_num_threads()} threads, median of {rounds}: ms, and its ratios")
    for name, taken in seconds.items():
        ratios = "  ".join(f"{taken / seconds[rival]:5.2f} x {rival}" for rival in rivals)
        print(f"{name:24s} {taken * 1e3:9.1f}   {ratios}")
    plain = seconds["NLL and entropy"]
    print(
        f"TRL / ours {seconds['TRL'] / plain:.2f} (aim: at least 3)   verl / ours {seconds['verl'] / plain:.2f} (aim: at least 3)"
    )
    print(f"ours / F.cross_entropy {plain / seconds['F.cross_entropy']:.2f} (aim: at most 1.3)")


def a_pass(z: torch.Tensor, w: torch.Tensor, y: torch.Tensor, base: bool, want: tuple[str, ...]) -> Callable[[], object]:
    return lambda: token_statistics_from_logits(z, y, w if base else None, want=want)


def trl(z: torch.Tensor, y: torch.Tensor) -> object:
    return selective_log_softmax(z, y), entropy_from_logits(z)


def verl(z: torch.Tensor, y: torch.Tensor) -> object:
    """verl.utils.torch_functional, v0.9: logsumexp − Σ softmax · z, and gather − logsumexp row by row."""
    entropy = torch.logsumexp(z, dim=-1) - torch.sum(torch.softmax(z, dim=-1) * z, dim=-1)
    lse = torch.stack([torch.logsumexp(row, dim=-1) for row in z])
    return z.gather(-1, y[:, None]).squeeze(-1) - lse, entropy


def compare_memory(threads: int) -> None:
    print(f"{MEMORY_SHAPE[0]} x {MEMORY_SHAPE[1]} fp32 logits, {threads} threads: MB beside the inputs (aim: at most 64)")
    for name in SETS:
        command = [sys.executable, __file__, "--memory-of", name, "--threads", str(threads)]
        print(f"{name:24s} {subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()}")


def print_memory_of(name: str) -> None:
    base, want = SETS[name]
    small = logits(64, MEMORY_SHAPE[1], torch.device("cpu"), torch.float32)
    a_pass(*(tensor[:1] for tensor in small), base, want)()  # code that is loaded when first used is no buffer
    z, w, y = (tensor.repeat(MEMORY_SHAPE[0] // 64, *([1] * (tensor.ndim - 1))) for tensor in small)
    before = psutil.Process().memory_info().rss
    a_pass(z, w, y, base, want)()
    print(f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before / 2**20:.1f}")


# -- on a GPU ----------------------------------------------------------------------------------------------------------


def compare_on_gpu(arguments: argparse.Namespace) -> None:
    if not torch.cuda.is_available():
        raise SystemExit("--gpu measures the Triton kernel, and torch sees no GPU here: nothing was measured")
    N, V, D = arguments.tokens or 16_384, arguments.vocabulary or 128_256, arguments.width
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, {N} x {V} bf16 logits, hidden states {D} wide")
    compare_from_logits(N, V, arguments)
    compare_from_hidden_states(N, V, D, arguments)


def compare_from_logits(N: int, V: int, arguments: argparse.Namespace) -> None:
    z, w, y = logits(N, V, torch.device("cuda"), torch.bfloat16)
    read_ms = N * V * 2 / arguments.bandwidth / 1e9
    rivals = {"TRL's fused kernel": lambda: trl(z, y), "eager torch": lambda: eager(z, y)}
    ours = {name: a_pass(z, w, y, *of_set) for name, of_set in SETS.items()}
    seconds = medians(rivals | ours | kernels(z, w, y), arguments.rounds, torch.cuda.synchronize)
    for name, taken in seconds.items():
        floor_ms = read_ms * (2 if any(base and part in name for part, (base, _) in SETS.items()) else 1)
        print(f"{name:44s} {taken * 1e3:9.3f} ms   {taken * 1e3 / floor_ms:6.2f} x the floor of {floor_ms:.3f} ms")


def compare_from_hidden_states(N: int, V: int, D: int, arguments: argparse.Namespace) -> None:
    y = torch.randint(0, V, (N,), device="cuda")
    hidden = torch.randn(N, D, device="cuda", dtype=torch.bfloat16)
    weight = torch.randn(V, D, device="cuda", dtype=torch.bfloat16) / D**0.5
    head, floor_ms = Head(weight), 2 * N * V * D / arguments.tflops / 1e9
    cases: dict[str, Callable[[], object]] = {
        f"from hidden states, tiles of {rows} x {columns}": a_head_pass(hidden, head, y, rows, columns)
        for rows, columns in ((4096, 2048), (4096, 4096), (8192, 2048), (16_384, 1024))
    }
    cases["the product alone, in bf16"] = lambda: hidden @ weight.T
    for name, taken in medians(cases, arguments.rounds, torch.cuda.synchronize).items():
        print(f"{name:44s} {taken * 1e3:9.3f} ms   {taken * 1e3 / floor_ms:6.2f} x the floor of {floor_ms:.3f} ms")


def a_head_pass(hidden: torch.Tensor, head: Head, y: torch.Tensor, rows: int, columns: int) -> Callable[[], object]:
    return lambda: token_statistics(hidden, head, y, rows=rows, columns=columns)


def kernels(z: torch.Tensor, w: torch.Tensor, y: torch.Tensor) -> dict[str, Callable[[], object]]:
    """The kernel alone, without what is around it, by the size of its blocks and its warps."""
    from worker.information.vocabulary.on_triton import column_sums
    from worker.information.vocabulary.sums import sums_for
    from worker.information.vocabulary.tiles import given

    tiles, base_tiles = given(z, convert=False), given(w, convert=False)
    threshold = z.gather(1, y[:, None])[:, 0].float()

    def launch(base: bool, want: tuple[str, ...], block: int, warps: int) -> Callable[[], object]:
        of_base = base_tiles if base else None
        return lambda: column_sums(tiles, y, threshold, sums_for(want), len(y), None, of_base, (block, warps))

    shapes = ((1024, 4), (2048, 4), (2048, 8), (4096, 8), (4096, 16), (8192, 16))
    return {
        f"  kernel, {name}, {block}/{warps}": launch(base, want, block, warps)
        for name, (base, want) in SETS.items()
        for block, warps in shapes
    }


def eager(z: torch.Tensor, y: torch.Tensor) -> object:
    """NLL and entropy as they are usually written, in fp32, 1024 tokens at a time so that they fit."""
    made = []
    for rows, targets in zip(z.split(1024), y.split(1024), strict=True):
        logp = torch.log_softmax(rows.float(), -1)
        made.append((logp.gather(1, targets[:, None]), -(logp.exp() * logp).sum(-1)))
    return made


# -- both --------------------------------------------------------------------------------------------------------------


def logits(N: int, V: int, device: torch.device, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator(device).manual_seed(0)
    z, w = ((torch.randn(N, V, generator=generator, device=device, dtype=dtype) * 3) for _ in range(2))
    return z, w, torch.randint(0, V, (N,), generator=generator, device=device)


def medians(cases: dict[str, Callable[[], object]], rounds: int, wait: Callable[[], None] = lambda: None) -> dict[str, float]:
    """Seconds of each, all of them once in every round and once before, unmeasured."""
    taken: dict[str, list[float]] = {name: [] for name in cases}
    for number in range(rounds + 1):
        for name, case in cases.items():
            wait()
            began = time.perf_counter()
            case()
            wait()
            if number:
                taken[name].append(time.perf_counter() - began)
    return {name: statistics.median(seconds) for name, seconds in taken.items()}


if __name__ == "__main__":
    main()
