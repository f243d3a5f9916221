"""What a model leaves out at random while it trains."""

import torch


def without_dropout(model: torch.nn.Module) -> None:
    """Switches off the model's own. An adapter's stays, which was asked for (lora_dropout).

    Where a model is held against another, noise in the one and not in the other would count as a difference.
    """
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Dropout) and "lora_dropout" not in name.split("."):
            module.p = 0.0
        if isinstance(getattr(module, "attention_dropout", None), float):
            module.attention_dropout = 0.0  # Llama's and its relatives' attention has a number
