"""A number for every position of a text: a linear layer on the last hidden states, kept in a file beside the model or adapter.

Files: value_head.safetensors, or value_head.bin as LLaMA-Factory also wrote it; the tensors are v_head.summary.weight [1, D] and
v_head.summary.bias [1].
"""

from pathlib import Path

import torch
from peft import PeftModel
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from service.specs.reasons import Reason
from worker.failures import JobFailure
from worker.models.adapters import Model
from worker.models.start import Start

SAFE, BIN = "value_head.safetensors", "value_head.bin"


class ValueHead(torch.nn.Module):
    """v(h) = w · h + b, in fp32 whatever the states are. A new one answers 0 everywhere."""

    def __init__(self, hidden_size: int):
        super().__init__()
        self.summary = torch.nn.Linear(hidden_size, 1)
        torch.nn.init.zeros_(self.summary.weight)
        torch.nn.init.zeros_(self.summary.bias)

    def forward(self, hidden_BTD: torch.Tensor) -> torch.Tensor:
        """[..., D] to [...]: in fp32 under autocast too."""
        with torch.autocast(hidden_BTD.device.type, enabled=False):
            return self.summary(hidden_BTD.to(self.summary.weight.dtype)).squeeze(-1)


def hidden_states(model: Model, input_ids_BT: torch.Tensor, attention_mask_BT: torch.Tensor) -> torch.Tensor:
    """[B, T, D] after the final norm, with the adapters that are on; no logits are made. Padding stands on the right."""
    whole = model.get_base_model() if isinstance(model, PeftModel) else model
    transformer = getattr(whole, whole.base_model_prefix)
    output = transformer(input_ids=input_ids_BT, attention_mask=attention_mask_BT, use_cache=False, return_dict=True)
    states_BTD: torch.Tensor = output.last_hidden_state
    return states_BTD


def scores(model: Model, head: ValueHead, input_ids_BT: torch.Tensor, attention_mask_BT: torch.Tensor) -> torch.Tensor:
    """[B] fp32: the value at each text's last token. Padding stands on the right."""
    states_BTD = hidden_states(model, input_ids_BT, attention_mask_BT)
    last_B = attention_mask_BT.sum(1) - 1
    values_B: torch.Tensor = head(states_BTD[torch.arange(len(last_B), device=last_B.device), last_B])
    return values_B


def width(model: Model) -> int:
    """D of the states that a head reads."""
    config = model.config.get_text_config()
    return int(getattr(config, "word_embed_proj_dim", config.hidden_size))  # OPT projects its states to the embeddings' size


def folder_of(start: Start) -> Path:
    """Where a model's head lies: beside the last of its adapters, or beside the whole model where it has none."""
    return start.adapters[-1].folder if start.adapters else start.whole


def save(head: ValueHead, folder: Path) -> Path:
    """As value_head.safetensors in the folder."""
    tensors = {f"v_head.{name}": tensor.detach().cpu().contiguous() for name, tensor in head.state_dict().items()}
    save_file(tensors, folder / SAFE, metadata={"format": "pt"})
    return folder / SAFE


def file_in(folder: Path) -> Path | None:
    """Either file, safetensors first."""
    return next((folder / name for name in (SAFE, BIN) if (folder / name).is_file()), None)


def load(folder: Path, hidden_size: int) -> ValueHead | None:
    """None where there is no file of one. One of another model's width is refused."""
    file = file_in(folder)
    if file is None:
        return None
    tensors = {
        name.removeprefix("v_head."): tensor for name, tensor in _tensors(file).items() if isinstance(tensor, torch.Tensor)
    }
    head = ValueHead(hidden_size)
    expected = {name: tuple(tensor.shape) for name, tensor in head.state_dict().items()}
    missing = sorted(expected.keys() - tensors.keys())
    if missing:
        raise _refused(file, f"lacks {', '.join(f'v_head.{name}' for name in missing)}")
    width = tuple(tensors["summary.weight"].shape)
    if any(tuple(tensors[name].shape) != shape for name, shape in expected.items()):
        raise _refused(file, f"is of another model: its weight is {'x'.join(map(str, width))}, and this model's 1x{hidden_size}")
    head.load_state_dict({name: tensors[name].float() for name in expected})
    return head


def _tensors(file: Path) -> dict[str, torch.Tensor]:
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        loaded = torch.load(file, map_location="cpu", weights_only=True)
    except (torch.OutOfMemoryError, MemoryError):
        raise
    except SafetensorError as error:
        raise _refused(file, f"cannot be read: {error}") from None
    except Exception:  # torch.load raises what its parsers raise, and its advice is not for a service to follow
        raise _refused(file, "cannot be read: it is damaged, or holds more than tensors") from None
    if not isinstance(loaded, dict) or not all(isinstance(value, torch.Tensor) for value in loaded.values()):
        raise _refused(file, "holds no tensors by name")
    return loaded


def _refused(file: Path, why: str) -> JobFailure:
    return JobFailure(Reason.BAD_MODEL, f"The value head {file.name} {why}.", file=file.name)
