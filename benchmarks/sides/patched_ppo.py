"""What LLaMA-Factory 0.9.5's ppo needs to run at all, beside the libraries that 0.9.5 installs.

Its ppo asks for a trl up to 0.9.6, and its kto, which its command imports whatever the stage, for functions that came later; its
package asks for 0.18 at least, so the check of versions is off. It reads an attribute of tokenizers that transformers 5 has not,
and saves by a trainer's attribute that its own has not. And on a CPU it computes in bf16 whatever is asked, which is turned off.
"""

from contextlib import nullcontext
from typing import Any

import trl.models.utils
from transformers import PreTrainedTokenizerBase

for name in ("prepare_deepspeed", "prepare_fsdp"):
    vars(trl.models.utils).setdefault(name, None)
PreTrainedTokenizerBase.additional_special_tokens_ids = []  # type: ignore[attr-defined]

from llamafactory.train.ppo import trainer, workflow  # noqa: E402


class InFull(trainer.CustomPPOTrainer):
    """In the type that was asked for."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self.amp_context = nullcontext()


workflow.CustomPPOTrainer = InFull
trainer.CustomPPOTrainer.save_model = lambda *_: None
trainer.CustomPPOTrainer.save_state = lambda *_: None
workflow.fix_valuehead_checkpoint = lambda *_: None
