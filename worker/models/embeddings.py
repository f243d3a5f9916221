"""A vocabulary that grows: rows for the tokens that a template or a user has added."""

import math

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

# Matrix units come in eights and sixty-fours.
MULTIPLE = 64


def grow_vocabulary(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, seed: int) -> tuple[str, ...]:
    """Gives every token a row, in place, and answers the names of the modules that grew: the embeddings, and an untied head.

    The rows become a multiple of 64. A new row is the mean of the old ones plus N(0, 1/√d) in each of its d numbers, drawn from
    the seed; the old rows stay as they are. Nothing happens to a model that has a row for every token.
    """
    embeddings = model.get_input_embeddings()
    old_rows = embeddings.num_embeddings
    if tokens_of(tokenizer) <= old_rows:
        return ()
    model.resize_token_embeddings(tokens_of(tokenizer), pad_to_multiple_of=MULTIPLE, mean_resizing=False)
    embeddings, head = model.get_input_embeddings(), model.get_output_embeddings()
    generator = torch.Generator().manual_seed(seed)
    grown = [embeddings]
    if head is not None and head.weight is not embeddings.weight:
        grown.append(head)
    for module in grown:
        _fill(module, old_rows, generator)
    return tuple(name.rpartition(".")[2] for name, module in model.named_modules() if any(module is one for one in grown))


def tokens_of(tokenizer: PreTrainedTokenizerBase) -> int:
    """How many rows the tokenizer needs: ids may have gaps."""
    return max(tokenizer.get_vocab().values()) + 1


@torch.no_grad()
def _fill(module: torch.nn.Module, old_rows: int, generator: torch.Generator) -> None:
    weight_VD: torch.Tensor = module.weight.data  # type: ignore[assignment]
    mean_D = weight_VD[:old_rows].float().mean(dim=0)
    noise_RD = torch.randn(weight_VD.shape[0] - old_rows, weight_VD.shape[1], generator=generator).to(weight_VD.device)
    weight_VD[old_rows:] = (mean_D + noise_RD / math.sqrt(weight_VD.shape[1])).to(weight_VD.dtype)
    bias_V = getattr(module, "bias", None)
    if bias_V is not None:
        bias_V.data[old_rows:] = bias_V.data[:old_rows].float().mean().to(bias_V.dtype)
