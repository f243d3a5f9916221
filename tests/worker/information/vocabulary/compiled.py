"""The kernels' machine code for an H100 or H200, which needs no GPU: `python compiled.py` prints what each uses."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from worker.information.vocabulary import on_triton

FLAGS = ("T2", "COLLISION", "HALF", "RANK", "BASE", "Q1", "KL", "BC", "D2", "LEAST")
VARIANTS = {"job": (), "job with a base": ("BASE", "KL", "LEAST"), "everything": FLAGS}


def main() -> None:
    made = {name: resources(flags) for name, flags in VARIANTS.items()}
    json.dump(made, sys.stdout)


def resources(flags: tuple[str, ...]) -> str:
    block, warps = on_triton.MANY_SUMS if flags else on_triton.FEW_SUMS
    constants = {flag: flag in flags for flag in FLAGS} | {"BLOCK": block}
    types = {"z_ptr": "*bf16", "w_ptr": "*bf16", "y_ptr": "*i64", "threshold_ptr": "*fp32", "state_ptr": "*fp64"}
    strides = dict.fromkeys(("C", "z_stride", "w_stride", "state_stride"), "i32")
    source = ASTSource(
        fn=on_triton._fold_kernel,
        signature=types | strides | dict.fromkeys(constants, "constexpr"),
        constexprs=constants,
        attrs={(i,): [["tt.divisibility", 16]] for i in range(9) if i != 5},
    )
    kernel = triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": warps})
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(kernel.asm["cubin"])
        file.flush()
        dump = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
        usage = subprocess.run([dump, "-res-usage", file.name], capture_output=True, text=True, check=True).stdout
    return next(line.strip() for line in usage.splitlines() if "REG:" in line)


if __name__ == "__main__":
    main()
