"""How text is sampled."""

from pydantic import Field

from service.specs.base import Group


class GeneratingArguments(Group):
    """Arguments pertaining to specify the decoding parameters."""

    do_sample: bool = Field(default=True, description="Whether or not to use sampling, use greedy decoding otherwise.")
    temperature: float = Field(default=0.95, ge=0, description="The value used to modulate the next token probabilities.")
    top_p: float = Field(
        default=0.7,
        gt=0,
        le=1,
        description="The smallest set of most probable tokens with probabilities that add up to top_p or higher are kept.",
    )
    top_k: int = Field(
        default=50,
        ge=0,
        description="The number of highest probability vocabulary tokens to keep for top-k filtering.",
    )
    num_beams: int = Field(default=1, ge=1, description="Number of beams for beam search. 1 means no beam search.")
    max_length: int = Field(
        default=512,
        ge=1,
        description="The maximum length the generated tokens can have. It can be overridden by max_new_tokens.",
    )
    max_new_tokens: int = Field(
        default=512,
        description="The maximum numbers of tokens to generate, ignoring the number of tokens in the prompt.",
    )
    repetition_penalty: float = Field(
        default=1.0,
        gt=0,
        description="The parameter for repetition penalty. 1.0 means no penalty.",
    )
    length_penalty: float = Field(
        default=1.0,
        description="Exponential penalty to the length that is used with beam-based generation.",
    )


def predicted_beams(generating: GeneratingArguments, eval_num_beams: int | None) -> int:
    """How many beams a step that predicts has: eval_num_beams wins over num_beams."""
    return eval_num_beams or generating.num_beams
