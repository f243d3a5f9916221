"""In which precision a model computes."""

import torch


def compute_dtype(device: torch.device) -> torch.dtype:
    """bf16 where a GPU has it, else fp16 on a GPU, else fp32: on a CPU half precision saves little and rounds much."""
    if device.type != "cuda":
        return torch.float32
    # asked without emulation: an older GPU that only imitates bf16 is slower in it than in fp16
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
