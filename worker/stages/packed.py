"""Training on packed blocks: what the trainer does otherwise, and which models may not be trained so."""

from collections.abc import Sequence
from typing import Any

import torch
from transformers import Trainer

from service.specs.reasons import Reason
from worker.data.packing import Packed, PackedCollator, block_features, pack
from worker.data.tokenize import MASKED, Example
from worker.failures import JobFailure
from worker.models.adapters import Model
from worker.probes.token import evaluating
from worker.run import Run
from worker.stages.step import StepWork


class PackedTrainer(Trainer):
    """Tokens are counted by an attention mask, without which the model must be called."""

    def _prepare_inputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        prepared: dict[str, Any] = super()._prepare_inputs(inputs)
        return {name: value for name, value in prepared.items() if name != "attention_mask"}


def packed_rows(run: Run, work: StepWork, examples: Sequence[Example]) -> list[dict[str, list[int]]]:
    """The examples in blocks, told in an event."""
    cutoff_len = work.step.data.cutoff_len
    packed = pack([len(example.input_ids) for example in examples], cutoff_len)
    _tell(run, work, packed, cutoff_len)
    return block_features(examples, packed)


def packed_collator(work: StepWork, model: Model, pad_id: int) -> PackedCollator:
    data = work.step.data
    flat = str(model.config._attn_implementation).startswith("flash_attention")
    return PackedCollator(pad_id, data.cutoff_len, MASKED if data.ignore_pad_token_for_loss else pad_id, flat)


@torch.no_grad()
def refuse_leaks(model: Model, collator: PackedCollator) -> None:
    """Raises a JobFailure if examples of a block reach each other in this model: its logits are held against those of each alone.

    Not every family reads positions, or those alone: state-space models carry on, and ALiBi and OPT count tokens themselves.
    """
    model.config.use_cache = False  # with a cache, transformers looks for no runs of positions
    device = next(model.parameters()).device
    examples = _samples(model)
    small = PackedCollator(collator.pad_id, 24, flat=collator.flat)
    features = block_features(examples, Packed([[0, 1], [2]], 3, 0.0))
    batch = {name: value.to(device) for name, value in small(features).items() if name in ("input_ids", "position_ids")}
    with evaluating(model):
        rows = model(**batch).logits.float()
        together = rows[0, :24] if small.flat else torch.cat([rows[0, :14], rows[1, :10]])
        alone = [model(input_ids=torch.tensor([example.input_ids], device=device)).logits[0].float() for example in examples]
    expected = torch.cat(alone)
    tolerance = (1e-3 if next(model.parameters()).dtype == torch.float32 else 4e-2) * (1 + float(expected.abs().max()))
    if not float((together - expected).abs().max()) <= tolerance:
        sentence = (
            f"In a model of the family {model.config.model_type}, examples that are packed into one block would see each other: "
            "set data.sft_packing to false."
        )
        raise JobFailure(Reason.BAD_MODEL, sentence)


def _samples(model: Model) -> list[Example]:
    """Three examples of 8, 6 and 10 tokens drawn from the vocabulary."""
    rows = model.get_input_embeddings().weight.shape[0]
    ids = torch.randint(rows, (24,), generator=torch.Generator().manual_seed(0)).tolist()
    return [Example(part, part) for part in (ids[:8], ids[8:14], ids[14:])]


def _tell(run: Run, work: StepWork, packed: Packed, cutoff_len: int) -> None:
    run.event(
        "data_packed",
        f"{work.name}: {packed.sentence(cutoff_len)}.",
        step=work.name,
        examples=packed.n_examples,
        blocks=len(packed.blocks),
        padding_share=packed.padding_share,
    )
