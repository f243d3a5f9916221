"""What the per-token measures are fed: documents through a model, once, and their sums in bits.

Shapes: N scored tokens of all documents in order, D width of the hidden states, V vocabulary, B documents of one batch,
T its longest length.

The hidden states that predict a scored token are kept (on the CPU, in the model's dtype) and the head is applied afterwards
in fp32, chunk by chunk: no logits of the model's own precision are used, and a base's states, once cached, cost one head
product for each checkpoint instead of a forward pass.
"""

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from peft.tuners.lora import Linear as LoraLinear

from worker.information.vocabulary.head import Head, full_precision_products
from worker.information.vocabulary.result import TokenStatistics
from worker.information.vocabulary.tokens import token_statistics

UNSCORED = -100
HUGE = 1e4  # nats, where fp32 numbers lie 0.001 apart
CERTAIN = 1 - 2.0**-24  # the last number of fp32 before 1
OF_NUMBERS = ("min_entropy", "largest_logit")  # the statistics that tell of them
DIVERGENCES = ("kl_from_base", "kl_to_base")
# The statistics of a pass that compare with a base.
WITH_A_BASE = (
    *DIVERGENCES,
    "base_nll",
    "bhattacharyya_coefficient",
    "renyi_divergence_2",
    "total_variation",
    "jensen_shannon",
)

Model = Any  # a transformers causal language model, or peft's wrapper around one


@dataclass(frozen=True)
class Document:
    """One row of the evaluation text; intervals cluster on it."""

    input_ids: list[int]
    labels: list[int]  # not shifted: labels[t] is the token at t, predicted from t−1; −100 is not scored
    n_bytes: int  # UTF-8 bytes of the scored text
    n_words: int = 0  # and its words; the first window of a text has them all

    def __post_init__(self) -> None:
        if len(self.labels) != len(self.input_ids):
            raise ValueError(f"{len(self.input_ids)} tokens have {len(self.labels)} labels: each token needs its own")

    @property
    def prompt(self) -> list[int]:
        """What stands before all that is scored; the first half where that is nearly everything."""
        first = self.scored[0] if self.scored else len(self.input_ids)
        return self.input_ids[: first if first > 1 else max(1, len(self.input_ids) // 2)]

    @cached_property
    def scored(self) -> list[int]:
        """Positions t of the scored tokens. The first token has nothing to be predicted from and is never one."""
        return [t for t, label in enumerate(self.labels) if t > 0 and label != UNSCORED]


@dataclass(frozen=True)
class DocumentSums:
    """For each document, sums over its scored tokens, in bits; the divergences are None without a base."""

    n_tokens: list[int]
    n_bytes: list[int]
    nll: list[float]
    entropy: list[float]
    kl_from_base: list[float] | None = None  # Σ D(base‖model)
    kl_to_base: list[float] | None = None  # Σ D(model‖base)
    most_entropy: list[float] | None = None  # Σ lg V
    varentropy: list[float] | None = None  # in bits², of each token's own distribution
    min_entropy: list[float] | None = None
    renyi_entropy_2: list[float] | None = None
    tsallis_entropy_2: list[float] | None = None  # Σ (1 − Σp²), and from here on no bits where nothing is said
    brier_score: list[float] | None = None
    mass_above_target: list[float] | None = None
    first_choice: list[float] | None = None  # how many targets no token is likelier than
    reciprocal_rank: list[float] | None = None
    top_probability: list[float] | None = None  # Σ max p
    bhattacharyya_coefficient: list[float] | None = None
    renyi_divergence_2: list[float] | None = None  # in bits
    total_variation: list[float] | None = None
    jensen_shannon: list[float] | None = None  # in bits
    n_words: list[int] | None = None
    # how many tokens show that numbers end; None where that was not looked at
    huge_logits: list[float] | None = None  # some logit beyond ±HUGE
    certain: list[float] | None = None  # max p is 1 as fp32 has it: at least CERTAIN
    certain_errors: list[float] | None = None  # and of another token than the target
    # of a document that is a pair of answers, as a reward model has it; None where none was asked
    pair_nll: list[float] | None = None  # bits
    pairs_won: list[int] | None = None
    chosen_score: list[float] | None = None  # nats
    rejected_score: list[float] | None = None

    def to_json(self) -> dict[str, list[int] | list[float | None] | None]:
        """Plain lists; a sum that is not finite, of a model that diverged, is null, since JSON has no nan."""
        return {name: values and [x if math.isfinite(x) else None for x in values] for name, values in asdict(self).items()}

    @classmethod
    def from_json(cls, kept: dict[str, Any]) -> "DocumentSums":
        """What else is kept beside the sums is left alone."""
        known = {name: kept[name] for name in cls.__dataclass_fields__ if name in kept}
        return cls(**{name: values and [math.nan if x is None else x for x in values] for name, values in known.items()})


@dataclass(frozen=True, eq=False)
class Base:
    """The model that checkpoints are compared with: its states on the evaluation text, and its head."""

    hidden_ND: torch.Tensor
    head: Head

    @classmethod
    def of(cls, model: Model, documents: list[Document], tokenizer_size: int, batch_documents: int | None = None) -> "Base":
        """The model as it is now. A head that training may move is copied; an adapter's frozen one is shared."""
        head = _checked_head(model, documents, tokenizer_size)
        if not _is_adapted(model) or _is_trained(model, head.weight_VD):
            bias_V = None if head.bias_V is None else head.bias_V.clone()
            head = replace(head, weight_VD=head.weight_VD.clone(), bias_V=bias_V)
        return cls(final_hidden_states(model, documents, batch_documents), head)


@dataclass(frozen=True, eq=False)
class Pass:
    """What one pass of documents through a model gave, token after scored token."""

    documents: list[Document]
    hidden_ND: torch.Tensor
    head: Head
    statistics: TokenStatistics

    @property
    def targets_N(self) -> torch.Tensor:
        return _targets(self.documents)

    @cached_property
    def document_N(self) -> np.ndarray:
        """Which document each token is of, by its place."""
        return np.repeat(np.arange(len(self.documents)), [len(document.scored) for document in self.documents])

    @cached_property
    def sums(self) -> DocumentSums:
        return _sums(self.documents, self.statistics, self.head.size)


def one_pass(
    model: Model,
    documents: list[Document],
    tokenizer_size: int,
    base: Base | None = None,
    batch_documents: int | None = None,
    want: tuple[str, ...] = (),
) -> Pass:
    """The documents through the model once, and its divergences from the base where one is given.

    `want` names statistics beside loss and entropy; those that compare with a base are left out where there is none.
    """
    head = _checked_head(model, documents, tokenizer_size)
    if base is not None:
        _require_same_vocabulary(head, base)
    kept = Base(final_hidden_states(model, documents, batch_documents), head)
    if base is not None:
        return pass_beside(base, kept, documents, want)
    statistics = token_statistics(kept.hidden_ND, head, _targets(documents), want=_of_one_model(want))
    return Pass(documents, kept.hidden_ND, head, statistics)


def pass_beside(base: Base, kept: Base, documents: list[Document], want: tuple[str, ...] = ()) -> Pass:
    """What `one_pass` gives, of a model of which its states and its head alone are left."""
    _require_same_vocabulary(kept.head, base)
    every = (*DIVERGENCES, *(name for name in want if name not in DIVERGENCES))
    statistics = token_statistics(kept.hidden_ND, kept.head, _targets(documents), base.hidden_ND, base.head, want=every)
    return Pass(documents, kept.hidden_ND, kept.head, statistics)


def measure(
    model: Model,
    documents: list[Document],
    tokenizer_size: int,
    base: Base | None = None,
    batch_documents: int | None = None,
    want: tuple[str, ...] = (),
) -> DocumentSums:
    """The sums of one pass."""
    return one_pass(model, documents, tokenizer_size, base, batch_documents, want).sums


def base_pass(base: Base, documents: list[Document], want: tuple[str, ...] = ()) -> Pass:
    """The base's own, from its cached states. It is no distance from itself, exactly."""
    statistics = token_statistics(base.hidden_ND, base.head, _targets(documents), want=_of_one_model(want))
    none_N = np.zeros(len(base.hidden_ND))
    itself = {name: none_N for name in (*DIVERGENCES, *want) if name in WITH_A_BASE}
    if "bhattacharyya_coefficient" in itself:
        itself["bhattacharyya_coefficient"] = none_N + 1
    if "base_nll" in itself:
        itself["base_nll"] = statistics.nll
    return Pass(documents, base.hidden_ND, base.head, replace(statistics, **itself))


def measure_base(base: Base, documents: list[Document], want: tuple[str, ...] = ()) -> DocumentSums:
    """The sums of the base's own pass."""
    return base_pass(base, documents, want).sums


def adapter_off(model: Model) -> AbstractContextManager[None]:
    """Inside it, an adapted model is its base: LoRA off, modules_to_save back to the originals."""
    if not _is_adapted(model):
        raise ValueError("the model has no adapter to switch off: its base must be measured before training starts")
    return model.disable_adapter()


@torch.no_grad()
def final_hidden_states(
    model: Model, documents: list[Document], batch_documents: int | None = None, batch_tokens: int = 8192
) -> torch.Tensor:
    """[N, D] on the CPU: the states after the final norm that predict the scored tokens, document after document.

    Batches are of like lengths, right-padded, at most batch_documents where that is given, and at most batch_tokens with the
    padding (one longer document goes alone).
    """
    transformer, device = transformer_of(model), next(model.parameters()).device
    states: dict[int, torch.Tensor] = {}
    with evaluating(model):
        for batch in _batches(documents, batch_documents or len(documents), batch_tokens):
            ids_BT, mask_BT = _padded([documents[i].input_ids for i in batch])
            output = transformer(
                input_ids=ids_BT.to(device), attention_mask=mask_BT.to(device), use_cache=False, return_dict=True
            )
            for row, i in enumerate(batch):
                before = torch.tensor(documents[i].scored) - 1  # the state at t−1 predicts the token at t
                states[i] = output.last_hidden_state[row, before.to(device)].cpu()
    if not states:
        return torch.empty(0, hf_model_of(model).config.get_text_config().hidden_size, dtype=next(model.parameters()).dtype)
    return torch.cat([states[i] for i in sorted(states)])


def first_documents(documents: list[Document], most_tokens: int) -> list[Document]:
    """As many from the first on as have so many tokens together, and one at least. For what grows faster than its text."""
    taken: list[Document] = []
    for document in documents:
        most_tokens -= len(document.input_ids)
        if taken and most_tokens < 0:
            break
        taken.append(document)
    return taken


def head_of(model: Model, tokenizer_size: int) -> Head:
    """The output head as it acts now, adapter included if it is on, with the logit transform that the model's config names."""
    hf_model = hf_model_of(model)
    weight_VD, bias_V = effective_weight(hf_model.get_output_embeddings())
    config = hf_model.config.get_text_config()
    softcap = getattr(config, "final_logit_softcapping", None)
    return Head(weight_VD, bias_V, logit_scale(config), softcap, vocabulary=tokenizer_size)


# -- the head ----------------------------------------------------------------------------------------------------------


def logit_scale(config: Any) -> float:
    """What the model multiplies its logits by. Cohere, Falcon-H1 and Muse multiply; Granite's `logits_scaling` divides."""
    scale = 1.0
    for name in ("logit_scale", "lm_head_multiplier", "output_multiplier"):
        scale *= getattr(config, name, None) or 1.0
    scaling = getattr(config, "logits_scaling", None) or 1.0
    # HyperCLOVA X has Granite's name for a factor
    return scale * scaling if config.model_type.startswith("hyperclovax") else scale / scaling


def effective_weight(module: Any) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The W and b for which module(h) = h W^T + b in the present state of its adapters."""
    if hasattr(module, "modules_to_save"):
        module = _present_copy(module)
    if type(module) is torch.nn.Linear:
        return module.weight.detach(), None if module.bias is None else module.bias.detach()
    if _is_plain_lora(module):
        bias_V = module.get_base_layer().bias
        return _with_lora(module), None if bias_V is None else bias_V.detach()
    return _by_its_action(module)


def _is_plain_lora(module: Any) -> bool:
    """LoRA over a plain layer, with neither a variant (DoRA) nor a bias of its own: its weight is a sum."""
    plain = type(module) is LoraLinear and type(module.get_base_layer()) is torch.nn.Linear
    return plain and not module.lora_variant and not any(module.lora_bias.values())


def _present_copy(wrapper: Any) -> Any:
    """peft's modules_to_save keeps the original and a trained copy for each adapter."""
    if wrapper.disable_adapters or not wrapper.active_adapters:
        return wrapper.original_module
    return wrapper.modules_to_save[wrapper.active_adapters[0]]


@torch.no_grad()
def _with_lora(layer: Any) -> torch.Tensor:
    """W + Σ scaling · B A over the adapters that act and are not merged yet, minus those merged that should not act, in fp32."""
    merged = set(layer.merged_adapters)
    acting = set() if layer.disable_adapters else merged or set(layer.active_adapters) & set(layer.lora_A)
    weight_VD = layer.get_base_layer().weight.detach()
    for adapter in sorted(acting ^ merged):
        sign = 1.0 if adapter in acting else -1.0
        # not peft's get_delta_weight: it rounds the product to the adapter's dtype
        product_VD = layer.lora_B[adapter].weight.float() @ layer.lora_A[adapter].weight.float()
        weight_VD = weight_VD.float() + sign * layer.scaling[adapter] * product_VD
    return weight_VD


@torch.no_grad()
def _by_its_action(module: Any) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Any other affine head (DoRA, quantized, trained tokens), from what it does to the unit vectors and to zero."""
    parameter = next(p for p in module.parameters() if p.is_floating_point())
    unit_DD = torch.eye(module.in_features, dtype=parameter.dtype, device=parameter.device)
    with evaluating(module), full_precision_products():
        bias_V = module(torch.zeros_like(unit_DD[:1]))[0].float()
        rows_DV = module(unit_DD).float()
    return (rows_DV - bias_V).T.contiguous(), bias_V if bias_V.any() else None


def _require_same_vocabulary(head: Head, base: Base) -> None:
    if base.head.size != head.size:
        raise ValueError(
            f"the model has {head.size} tokens in its vocabulary and its base {base.head.size}:"
            " a divergence needs the same ones, so measure without a base"
        )


def _checked_head(model: Model, documents: list[Document], tokenizer_size: int) -> Head:
    """The head, after its logits on a few tokens have been held against the model's own.

    A model family may do to its logits what no config field above tells; then no number would be right, so none is made.
    """
    head = head_of(model, tokenizer_size)
    sample = next((document.input_ids[:8] for document in documents if document.scored), None)
    if sample is not None:
        _require_same_logits(model, head, sample)
    return head


@torch.no_grad()
def _require_same_logits(model: Model, head: Head, sample: list[int]) -> None:
    ids_1T = torch.tensor([sample], device=next(model.parameters()).device)
    with evaluating(model), full_precision_products():
        own_TV = model(input_ids=ids_1T, use_cache=False).logits[0].float()
        hidden_TD = transformer_of(model)(input_ids=ids_1T, use_cache=False, return_dict=True).last_hidden_state[0]
    if not own_TV.isfinite().all():
        return  # a model that diverged says so in its numbers
    made_TV = head.logits(hidden_TD)
    own_TV = own_TV[:, : head.size].to(made_TV.device)
    tolerance = (1e-3 if hidden_TD.dtype == torch.float32 else 4e-2) * (1 + float(own_TV.abs().max()))
    apart = float((made_TV - own_TV).abs().max())
    if not apart <= tolerance:
        raise ValueError(
            f"{type(hf_model_of(model)).__name__} makes its logits in a way that is not known here (they are {apart:.2g} apart),"
            " so it cannot be measured"
        )


# -- the model ---------------------------------------------------------------------------------------------------------


def _is_adapted(model: Model) -> bool:
    return hasattr(model, "disable_adapter")


def _is_trained(model: Model, weight_VD: torch.Tensor) -> bool:
    return any(p.requires_grad and p.data_ptr() == weight_VD.data_ptr() for p in model.parameters())


def hf_model_of(model: Model) -> Any:
    """The transformers model inside; peft's layers stay in their places, so it acts as the adapter's state says."""
    if not _is_adapted(model):
        return model
    if model.active_peft_config.is_prompt_learning:
        raise ValueError("a prompt that is learned is not inside the model, so its hidden states cannot be had without it")
    return model.get_base_model()


def transformer_of(model: Model) -> Any:
    """All but the head; its last_hidden_state is after the final norm."""
    hf_model = hf_model_of(model)
    return getattr(hf_model, hf_model.base_model_prefix)


@contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """Dropout off; afterwards each module is as it was, those that were kept in evaluation mode too."""
    training = [module for module in model.modules() if module.training]
    try:
        model.eval()
        yield
    finally:
        for module in training:
            module.training = True


# -- the documents -----------------------------------------------------------------------------------------------------


def _batches(documents: list[Document], batch_documents: int, batch_tokens: int) -> Iterator[list[int]]:
    """Indices of documents with something scored, longest first: if memory is short, the first batch says so."""
    batch: list[int] = []
    scored = [i for i, document in enumerate(documents) if document.scored]
    for i in sorted(scored, key=lambda i: -len(documents[i].input_ids)):
        longest = len(documents[batch[0] if batch else i].input_ids)
        if batch and (len(batch) == batch_documents or longest * (len(batch) + 1) > batch_tokens):
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch


def _padded(rows: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and attention mask, [B, T]; what stands in the padding does not matter, since nothing attends to it."""
    T = max(len(row) for row in rows)
    ids_BT = torch.tensor([row + [0] * (T - len(row)) for row in rows])
    mask_BT = torch.tensor([[1] * len(row) + [0] * (T - len(row)) for row in rows])
    return ids_BT, mask_BT


def _targets(documents: list[Document]) -> torch.Tensor:
    return torch.tensor([document.labels[t] for document in documents for t in document.scored], dtype=torch.long)


def _of_one_model(want: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for name in want if name not in WITH_A_BASE)


def _sums(documents: list[Document], statistics: TokenStatistics, vocabulary: int) -> DocumentSums:
    """Per-token bits to per-document sums."""
    n_tokens = [len(document.scored) for document in documents]
    ends = np.cumsum(n_tokens)

    def per_document(bits_N: np.ndarray) -> list[float]:
        return [float(bits_N[end - n : end].sum()) for n, end in zip(n_tokens, ends, strict=True)]

    names = {field.name for field in fields(DocumentSums)}
    told: dict[str, Any] = {name: bits_N for name, bits_N in vars(statistics).items() if name in names and bits_N is not None}
    if statistics.target_rank is not None:
        told["first_choice"] = statistics.target_rank == 0
        told["reciprocal_rank"] = 1 / (1 + statistics.target_rank)
    if statistics.largest_logit is not None:
        told["huge_logits"] = statistics.largest_logit > HUGE
    if statistics.min_entropy is not None:
        certain_N = statistics.min_entropy <= -math.log2(CERTAIN)
        told |= {"certain": certain_N, "certain_errors": certain_N & (statistics.nll > 1)}
        told["top_probability"] = np.exp2(-statistics.min_entropy)
    return DocumentSums(
        n_tokens=n_tokens,
        n_bytes=[document.n_bytes for document in documents],
        n_words=[document.n_words for document in documents],
        most_entropy=[n * math.log2(vocabulary) for n in n_tokens],
        **dict[str, Any]((name, per_document(bits_N)) for name, bits_N in told.items()),
    )
