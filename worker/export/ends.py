"""The tokens that end an answer, for programs that read generation_config.json: vLLM, and transformers' own generate."""

from transformers import GenerationConfig, PreTrainedTokenizerBase

from worker.data.templates import stop_ids
from worker.data.turns import AnyTemplate


def name_ends(generation: GenerationConfig, template: AnyTemplate, tokenizer: PreTrainedTokenizerBase) -> None:
    """Those that the template trained before those that the base had: a base of another template's end would write on and on."""
    before = generation.eos_token_id
    earlier = before if isinstance(before, list) else [] if before is None else [before]
    ends = list(dict.fromkeys([*stop_ids(template, tokenizer), *earlier]))
    generation.eos_token_id = ends[0] if len(ends) == 1 else ends
