"""The Triton backend in Triton's interpreter, in a process of its own: the choice is made when Triton is first imported.

    TRITON_INTERPRET=1 python interpreted.py CASES RESULTS

CASES is a file of torch.save: by name, the arguments of token_statistics_from_logits or of token_statistics. RESULTS gets, by
name, the statistics that came out.
"""

import sys

import numpy as np
import torch

from worker.information.vocabulary.head import Head
from worker.information.vocabulary.tokens import token_statistics, token_statistics_from_logits


def main(cases_file: str, results_file: str) -> None:
    np.seterr(all="ignore")  # the interpreter is numpy, and warns where a GPU would not
    results = {}
    for name, case in torch.load(cases_file, weights_only=False).items():
        made = by_head(case) if "head" in case else token_statistics_from_logits(**case, backend="triton")
        results[name] = {statistic: bits for statistic, bits in vars(made).items() if bits is not None}
    torch.save(results, results_file)


def by_head(case):
    heads = {name: Head(**case.pop(name)) for name in ("head", "base_head")}
    return token_statistics(**case, **heads, backend="triton")


if __name__ == "__main__":
    main(*sys.argv[1:])
