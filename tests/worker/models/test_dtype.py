import pytest
import torch

from worker.models.dtype import compute_dtype


def test_a_cpu_computes_in_full_precision():
    assert compute_dtype(torch.device("cpu")) == torch.float32


@pytest.mark.parametrize(("has_bf16", "dtype"), [(True, torch.bfloat16), (False, torch.float16)])
def test_a_gpu_computes_in_bf16_where_it_has_it(monkeypatch, has_bf16, dtype):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: has_bf16)
    assert compute_dtype(torch.device("cuda")) == dtype
