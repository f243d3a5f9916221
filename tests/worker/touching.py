"""What a fork server loads that has then touched CUDA, as far as torch can tell."""

import torch

torch.cuda._is_in_bad_fork = lambda: True
