"""The certificate of equivalence: how far what lies on the disk is from what was trained, in bits.

Both models read the same text, and answer each token of it with a distribution. What was written is loaded again from its files:
a wrong merge, a rounding, a shard that is damaged, all of it is in the numbers. Shapes: N scored tokens, D documents.
"""

import ctypes
import gc
import math
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from service.specs.reasons import Reason
from worker.export.rate_distortion import RateDistortion
from worker.export.text import Text
from worker.failures import JobFailure
from worker.information.intervals import Estimate, difference, interval, ratio, standard_error
from worker.information.vocabulary.head import Head, HeadTiles, full_precision_products
from worker.models.adapters import Model
from worker.models.assembly import is_quantized
from worker.models.loading import half_precision_of, load_config, load_model, refuse_broken_weights, refuse_small_vocabulary
from worker.models.quantization import quantized_with
from worker.models.widened import widen
from worker.probes.token import Base, Document, DocumentSums, Pass, pass_beside

FILE = "certificate.json"

_COLUMNS, _TILE = 4096, 2**21  # of the vocabulary, and of logits, that are looked at together for the likeliest tokens: 8 MB

_CPU_TOKENS = 512  # of a batch: a CPU is no faster with more, and what a layer makes of each token is in memory

Made = Callable[[], Model]


@dataclass(frozen=True)
class Limits:
    """What either divergence may come to, in bits a token: in its mean and at its largest. None: it is told, fails nothing."""

    mean_kl: float | None = None
    max_kl: float | None = None


@dataclass(frozen=True)
class Mean:
    """A mean over tokens, with an interval of 95 % by document; both are None where there are too few documents."""

    value: float
    standard_error: float | None
    interval: tuple[float, float] | None


@dataclass(frozen=True)
class Divergence:
    """In bits: a mean over tokens, and the largest of one token."""

    mean: Mean
    max: float


@dataclass(frozen=True)
class Certificate:
    """What was found. Cross-entropies and their change (export − reference, paired by document) are in bits a token."""

    text: str
    n_documents: int
    n_tokens: int
    kl_from_reference: Divergence  # D(reference‖export)
    kl_to_reference: Divergence  # D(export‖reference)
    top_1_agreement: Mean  # how often both have the same likeliest token
    cross_entropy_reference: Mean
    cross_entropy_export: Mean
    cross_entropy_change: Mean
    limits: Limits = field(default_factory=Limits)
    rate_distortion: RateDistortion | None = None  # of an export whose weights were rounded
    # by window, for a report of measures in which what was trained is the base
    of_reference: DocumentSums | None = field(default=None, repr=False)
    of_export: DocumentSums | None = field(default=None, repr=False)

    @property
    def failures(self) -> list[str]:
        """What is beyond a limit, as clauses of a sentence. What is not a number is beyond every limit."""
        named = {"D(trained‖written)": self.kl_from_reference, "D(written‖trained)": self.kl_to_reference}
        found = []
        for name, kl in named.items():
            for what, value, limit in (("mean", kl.mean.value, self.limits.mean_kl), ("largest", kl.max, self.limits.max_kl)):
                if limit is not None and not value <= limit:
                    found.append(f"the {what} {name} is {value:.3g} bits a token, and {limit:g} are allowed")
        return found

    def to_document(self) -> dict[str, Any]:
        """As certificate.json has it: a number that is none is null, since JSON has no nan."""
        told = asdict(replace(self, of_reference=None, of_export=None))
        del told["of_reference"], told["of_export"]
        return {**_finite(told), "unit": "bits per token", "passed": not self.failures}

    def sentence(self) -> str:
        """Its main numbers, for people."""
        kl = self.kl_from_reference
        return (
            f"D(trained‖written) is {kl.mean.value:.2g} bits a token in the mean and {kl.max:.2g} at its largest, the likeliest "
            f"token the same in {100 * self.top_1_agreement.value:.2f} % of {self.n_tokens}, and the cross-entropy changes by "
            f"{self.cross_entropy_change.value:+.2g} bits"
        )


def certify(
    reference: Made,
    folder: Path,
    tokenizer: PreTrainedTokenizerBase,
    text: Text,
    device: torch.device,
    dtype: torch.dtype,
    limits: Limits,
    batch_documents: int | None = None,
    load: Made | None = None,
) -> Certificate:
    """What was trained against what lies in a folder. Raises JobFailure (certificate_failed) beyond a limit, or where the folder
    does not load.

    `reference` makes the model that was trained. It is gone from memory before the other is loaded, which computes in `dtype`: of
    either are left its hidden states at the tokens that count, and its head; those wait on the disk. A folder that is quantized
    is loaded as it is. `load` is for what is no whole model, such as an adapter.
    """
    if device.type == "cpu":
        longest = max((len(document.input_ids) for document in text.documents), default=1)
        batch_documents = min(batch_documents or len(text.documents), max(1, _CPU_TOKENS // longest))
    kept = partial(_kept, documents=text.documents, tokenizer_size=len(tokenizer), batch_documents=batch_documents)
    try:
        with _quick_to_collect(), _put_aside(lambda: kept(reference), folder.parent) as trained:
            written = kept(lambda: _again(load or (lambda: loaded(folder, tokenizer, device, dtype))))
            found = compare(trained(), written, text, limits)
    except ValueError as error:
        raise JobFailure(Reason.CERTIFICATE_FAILED, f"What was written cannot be compared: {error}.") from None
    if found.failures:
        sentence = (
            f"What was written is not what was trained: {'; '.join(found.failures)} ({found.n_tokens} tokens, {found.text}). "
            "Nothing of it was kept."
        )
        raise JobFailure(Reason.CERTIFICATE_FAILED, sentence, certificate=found.to_document())
    return found


def compare(base: Base, written: Base, text: Text, limits: Limits) -> Certificate:
    """What is kept of two models on the text. ValueError where their vocabularies differ."""
    one = pass_beside(base, written, text.documents, ("base_nll", "base_entropy"))
    bits = one.statistics
    assert bits.kl_from_base is not None
    assert bits.kl_to_base is not None
    assert bits.base_nll is not None
    place_N = np.array(text.document_of, dtype=np.int64)[one.document_N]
    counts_D = np.bincount(place_N)

    def mean(values_N: np.ndarray) -> Estimate:
        return ratio(np.bincount(place_N, values_N), counts_D)

    same_N = _likeliest(one.hidden_ND, one.head) == _likeliest(base.hidden_ND, base.head)
    reference, export = mean(bits.base_nll), mean(bits.nll)
    return Certificate(
        text=text.source,
        n_documents=export.n_documents,
        n_tokens=export.n_tokens,
        kl_from_reference=Divergence(_told(mean(bits.kl_from_base)), float(bits.kl_from_base.max())),
        kl_to_reference=Divergence(_told(mean(bits.kl_to_base)), float(bits.kl_to_base.max())),
        top_1_agreement=_told(mean(same_N.astype(np.float64))),
        cross_entropy_reference=_told(reference),
        cross_entropy_export=_told(export),
        cross_entropy_change=_told(difference(export, reference)),
        limits=limits,
        of_reference=_of_base(one),
        of_export=one.sums,
    )


def loaded(folder: Path, tokenizer: PreTrainedTokenizerBase, device: torch.device, dtype: torch.dtype) -> Model:
    """A whole model as its files have it, to be asked. Raises JobFailure."""
    config = load_config(folder)
    refuse_broken_weights(folder)
    half = half_precision_of(folder) if dtype == torch.float32 and quantized_with(config) is None else None
    model = load_model(folder, half or dtype, config, device=device)
    refuse_small_vocabulary(folder, model, tokenizer)
    model.requires_grad_(False)
    model.eval()
    if half is not None:
        widen(model)
    return model if is_quantized(model) else model.to(device)


def _of_base(one: Pass) -> DocumentSums:
    """The base's own sums, which the pass beside it has made already."""
    windows = len(one.documents)

    def sums(bits_N: np.ndarray | None) -> list[float]:
        return [float(total) for total in np.bincount(one.document_N, bits_N, minlength=windows)]

    none = [0.0] * windows
    nll, entropy = sums(one.statistics.base_nll), sums(one.statistics.base_entropy)
    return replace(one.sums, nll=nll, entropy=entropy, kl_from_base=none, kl_to_base=none)


def _again(load: Made) -> Model:
    try:
        return load()
    except JobFailure as failure:
        sentence = f"What was written does not load again: {failure.sentence} Nothing of it was kept."
        raise JobFailure(Reason.CERTIFICATE_FAILED, sentence, **failure.where) from failure


def _kept(make: Made, documents: list[Document], tokenizer_size: int, batch_documents: int | None) -> Base:
    """What is needed of a model, which is gone from memory afterwards."""
    base = Base.of(make(), documents, tokenizer_size, batch_documents)
    _free_memory()
    # a weight that is a view of a file keeps all of the file in memory
    bias_V = None if base.head.bias_V is None else base.head.bias_V.clone()
    base = replace(base, head=replace(base.head, weight_VD=base.head.weight_VD.clone(), bias_V=bias_V))
    _give_back()
    return base


@contextmanager
def _quick_to_collect() -> Iterator[None]:
    """What lives already is not looked through each time: the libraries alone are a million objects, and third of a second."""
    _free_memory()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


@contextmanager
def _put_aside(make: Callable[[], Base], place: Path) -> Iterator[Callable[[], Base]]:
    """What gives it back: until then it is in a file without a name, and in no memory."""
    with tempfile.TemporaryFile(dir=place) as file:
        head = _save(make(), file)
        _give_back()

        def again() -> Base:
            file.seek(0)
            hidden_ND, weight_VD, bias_V = torch.load(file, weights_only=True)
            return Base(hidden_ND, replace(head, weight_VD=weight_VD, bias_V=bias_V))

        yield again


def _save(base: Base, file: IO[bytes]) -> Head:
    """The head, less what was saved of it."""
    torch.save((base.hidden_ND, base.head.weight_VD, base.head.bias_V), file)
    return replace(base.head, weight_VD=torch.empty(0), bias_V=None)  # of a view, all would stay


@torch.no_grad()
def _likeliest(hidden_ND: torch.Tensor, head: Head) -> np.ndarray:
    """[N]: the token that each state makes the likeliest; the first of equal ones."""
    columns, rows = min(_COLUMNS, head.size), max(1, _TILE // _COLUMNS)
    tiles = HeadTiles(hidden_ND, head, columns)
    most_N = torch.full((len(hidden_ND),), -torch.inf, device=head.weight_VD.device)
    token_N = torch.zeros(len(hidden_ND), dtype=torch.long, device=head.weight_VD.device)
    with full_precision_products():
        for first in range(0, head.size, columns):
            part = tiles.over(first, min(first + columns, head.size))
            room = part.room(rows)
            for start in range(0, len(hidden_ND), rows):
                some = slice(start, min(start + rows, len(hidden_ND)))
                most_R, place_R = part.of(some, room).max(1)
                more_R = most_R > most_N[some]
                token_N[some] = torch.where(more_R, place_R + first, token_N[some])
                most_N[some] = torch.where(more_R, most_R, most_N[some])
    return token_N.cpu().numpy()


def _told(estimate: Estimate) -> Mean:
    return Mean(estimate.value, standard_error(estimate), interval(estimate))


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _free_memory() -> None:
    """Of a model that nothing names any more: its parts name each other."""
    gc.collect()
    _give_back()


def _give_back() -> None:
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc keeps what was freed for the next who asks
    if trim is not None:
        trim(0)
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
