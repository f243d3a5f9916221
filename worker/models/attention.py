"""Which attention a model computes, and the shifted sparse one of LongLoRA.

S²-Attn (Chen et al. 2023, LongLoRA, arXiv 2309.12307, section 3.2): the tokens are cut into groups of G, and each attends within
its group. Half of the heads are rolled by G/2 tokens before that and rolled back after, so that their groups lie across the
borders of the others'. The rolled sequence ends with a group that is made of the last and the first half group; the paper's
mask keeps the two halves apart, since the first tokens may not see the last. Evaluation attends fully.

Shapes: B examples, H heads, T tokens, N groups, G tokens of a group, D width of a head.
"""

import torch
import torch.nn.functional as F
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.masking_utils import sdpa_mask
from transformers.utils import is_flash_attn_2_available

from service.specs.reasons import Reason
from worker.failures import JobFailure

SHIFTED = "shifted_sparse"

# The models whose attention is Llama's.
FAMILIES = ("llama",)


def use_flash(model: PreTrainedModel, device: torch.device, dtype: torch.dtype) -> str | None:
    """FlashAttention-2 where it is there; else answers why it is not, and the model stays with SDPA."""
    if not is_flash_attn_2_available():
        return "flash_attn is not installed on this worker"
    if device.type != "cuda" or dtype not in (torch.float16, torch.bfloat16):
        held = f"{str(dtype).removeprefix('torch.')} on {device.type}"
        return f"FlashAttention-2 computes in half precision on a GPU, and this is {held}"
    try:
        model.set_attn_implementation("flash_attention_2")
    except (ValueError, ImportError) as error:
        return str(error).splitlines()[0]
    return None


def use_shifted(model: PreTrainedModel, group: int) -> None:
    """S²-Attn in training with groups of that many tokens; of a family that has Llama's attention."""
    if model.config.model_type not in FAMILIES:
        sentence = f"shift_attn is for {', '.join(FAMILIES)} models, and this is a {model.config.model_type} one."
        raise JobFailure(Reason.BAD_MODEL, sentence)
    AttentionInterface.register(SHIFTED, shifted_attention)
    AttentionMaskInterface.register(SHIFTED, sdpa_mask)
    model.set_attn_implementation(SHIFTED)
    for module in model.modules():
        if hasattr(module, "num_key_value_groups"):
            module.shifted_group = group


def shifted_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **kwargs: object,
) -> tuple[torch.Tensor, None]:
    """transformers' attention interface: query, key and value are [B, H, T, D]; the answer is [B, T, H, D]."""
    if not module.training:
        return sdpa_attention_forward(module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs)
    n_rep: int = module.num_key_value_groups  # type: ignore[assignment]
    group: int = module.shifted_group  # type: ignore[assignment]
    states = query, repeat_kv(key, n_rep), repeat_kv(value, n_rep)
    half = query.shape[1] // 2
    outputs = [
        _in_groups(states, heads, attention_mask, group, shift, dropout, scaling)
        for heads, shift in ((slice(0, half), 0), (slice(half, None), group // 2))
        if heads != slice(0, 0)  # a single head is a shifted one
    ]
    return torch.cat(outputs, dim=1).transpose(1, 2).contiguous(), None


def _in_groups(
    states: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    heads: slice,
    mask: torch.Tensor | None,
    group: int,
    shift: int,
    dropout: float,
    scaling: float | None,
) -> torch.Tensor:
    """Attention of some heads within groups of the sequence rolled by `shift`, rolled back."""
    B, _, T, D = states[0].shape
    padding = -T % group
    N = (T + padding) // group

    def grouped(x_BHTD: torch.Tensor) -> torch.Tensor:
        rolled = F.pad(x_BHTD[:, heads], (0, 0, 0, padding)).roll(-shift, dims=2)
        return rolled.reshape(B, -1, N, group, D).transpose(1, 2).reshape(B * N, -1, group, D)

    query, key, value = map(grouped, states)
    allowed = _allowed(mask, B, T, group, shift, query.device)
    output = F.scaled_dot_product_attention(query, key, value, attn_mask=allowed, dropout_p=dropout, scale=scaling)
    rolled = output.reshape(B, N, -1, group, D).transpose(1, 2).reshape(B, -1, N * group, D)
    return rolled.roll(shift, dims=2)[:, :, :T]


def _allowed(mask: torch.Tensor | None, B: int, T: int, group: int, shift: int, device: torch.device) -> torch.Tensor:
    """[B·N, 1, G, G]: which token of a group sees which. Later ones are never seen, nor what the model's own mask hides."""
    padding = -T % group
    N = (T + padding) // group
    position_NG = torch.arange(T + padding, device=device).roll(-shift).reshape(N, group)
    causal_NGG = position_NG[:, :, None] >= position_NG[:, None, :]
    # the last group's two halves are the sequence's two ends
    straight_NGG = torch.ones(group, group, dtype=torch.bool, device=device).tril().expand(N, group, group)
    allowed = (causal_NGG & straight_NGG).expand(B, N, group, group)
    if mask is not None:
        own_BTT = F.pad(mask[:, 0].to(torch.bool), (0, padding, 0, padding)).expand(B, -1, -1)
        blocks = own_BTT[:, position_NG[:, :, None], position_NG[:, None, :]]
        allowed = allowed & blocks
    # a token of padding sees itself: a row of nothing has no softmax
    itself = torch.eye(group, dtype=torch.bool, device=device)
    return (allowed | itself).reshape(B * N, 1, group, group)
