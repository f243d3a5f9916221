"""Which probes a step's measures ask for, on what, and what was found: one for each object that a named measure is taken on."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from service.specs.generating import GeneratingArguments
from service.specs.measures import MeasureArguments, taken_on
from worker.data.load import Places, Wanted
from worker.data.pairs import KtoExample, PairExample
from worker.data.prepared import Prepared, Streamed
from worker.data.probed import load_labelled, load_without_systems
from worker.data.splits import sample
from worker.data.templates import TEMPLATES, stop_ids
from worker.data.tokenize import Example
from worker.probes import memorization
from worker.probes.adapter import adapter_spectra
from worker.probes.attention import attention_entropy
from worker.probes.context import of_prompts, of_systems, paired, without_prompts
from worker.probes.dataset import dataset
from worker.probes.finding import Findings, exact
from worker.probes.generation import generate, generation
from worker.probes.gradient import fisher_trace
from worker.probes.nucleus import hartley_entropy
from worker.probes.report import statistics_for
from worker.probes.representation import States, final_norm_of, representation, states
from worker.probes.series import granger
from worker.probes.surprisal import QUANTILES, entropy_quantiles, surprisal_chain
from worker.probes.task import Task, answers, channel_measures
from worker.probes.token import OF_NUMBERS, Base, Document, Model, Pass, base_pass, final_hidden_states, measure, one_pass
from worker.probes.weights import rate_of_rounding


@dataclass(frozen=True)
class Probed:
    """What probes may look at beside the model: the step's arguments, and where its data is."""

    measures: MeasureArguments
    generating: GeneratingArguments
    places: Places
    wanted: Wanted
    data: Prepared | Streamed
    tokenizer: PreTrainedTokenizerBase
    batch_documents: int


class Probing:
    """One step's probes. The base comes first: some measures compare with what was found of it."""

    def __init__(self, probed: Probed, windows: list[Document], document_of: list[int]):
        self._probed = probed
        self._names = set(probed.measures.names)
        self._on = taken_on(probed.measures.names)
        self._windows = windows
        places = {document: place for place, document in enumerate(dict.fromkeys(document_of))}
        self._document_of = [places[document] for document in document_of]
        self._base_states: States | None = None
        self._base_answers: np.ndarray | None = None
        self._train_base: Base | None = None
        if "task" in self._on:
            labelled = load_labelled(probed.places, probed.wanted, probed.tokenizer)
            self._task = Task(labelled.labels, labelled.truth, list(map(document_of_example, labelled.candidates)))
        if "systems" in self._on:
            pairs = load_without_systems(probed.places, probed.wanted, probed.tokenizer)
            self._with_system, self._without = paired([(document_of_example(a), document_of_example(b)) for a, b in pairs])
        if "membership" in self._on:
            self._train = list(map(document_of_example, self._training_sample()))

    @property
    def statistics(self) -> tuple[str, ...]:
        """What the pass over the measured text must take."""
        own = memorization.STATISTICS if "membership" in self._on else ()
        return tuple(dict.fromkeys((*OF_NUMBERS, *statistics_for(self._probed.measures.names), *own)))

    def base(self, model: Model, one: Pass) -> Findings:
        if self._names & {"quantum_relative_entropy"}:
            self._base_states = states(model, self._windows, self._document_of)
        if "membership" in self._on:
            self._train_base = Base(final_hidden_states(model, self._train, self._probed.batch_documents), one.head)
        found = self._of(model, one, is_base=True)
        if "data" in self._on:
            found |= self._dataset()
        return found

    def checkpoint(self, model: Model, one: Pass, history: list[dict[str, Any]]) -> Findings:
        """`history` is the trainer's log up to the checkpoint."""
        found = self._of(model, one, is_base=False)
        if "series" in self._on:
            found["granger_causality"] = granger(history)
        return found

    def _of(self, model: Model, one: Pass, is_base: bool) -> Findings:
        probes: dict[str, Callable[[], Findings]] = {
            "tokens": lambda: self._tokens(one),
            "prompts": lambda: self._prompts(model, one),
            "systems": lambda: self._systems(model),
            "hidden": lambda: self._hidden(model, one),
            "attention": lambda: attention_entropy(model, self._windows, self._document_of),
            "adapter": lambda: adapter_spectra(model, self._names),
            "weights": lambda: {"gaussian_rate_distortion": rate_of_rounding(model)},
            "gradient": lambda: self._gradient(model),
            "membership": lambda: self._membership(model, one, is_base),
            "generations": lambda: self._generations(model),
            "task": lambda: self._answers(model, is_base),
        }
        found: Findings = {}
        for thing, probe in probes.items():
            if thing in self._on:
                found |= probe()
        return found

    # -- what each looks at ---------------------------------------------------------------------------------------------

    def _tokens(self, one: Pass) -> Findings:
        document_N = np.array(self._document_of, dtype=np.int64)[one.document_N]
        found: Findings = {}
        if self._names & QUANTILES.keys():
            found |= entropy_quantiles(one.statistics.entropy, document_N, self._names)
        if "hidden_markov_rate_bounds" in self._names:
            found |= surprisal_chain(one.statistics.nll, document_N)
        if "hartley_entropy" in self._names:
            found["hartley_entropy"] = hartley_entropy(one.hidden_ND, one.head, document_N, max(self._document_of) + 1)
        return found

    def _prompts(self, model: Model, one: Pass) -> Findings:
        blind = self._sums(model, [without_prompts(window) for window in self._windows])
        return of_prompts(one.sums, blind, self._names)

    def _systems(self, model: Model) -> Findings:
        if not self._with_system:
            why = "No conversation that is measured has a system text with answers that stay whole."
            return {"conditional_mutual_information": exact(np.nan, why, "none")}
        found = of_systems(self._sums(model, self._with_system), self._sums(model, self._without))
        return {"conditional_mutual_information": found}

    def _hidden(self, model: Model, one: Pass) -> Findings:
        of = states(model, self._windows, self._document_of)
        return representation(of, self._base_states, self._names, one.head, final_norm_of(model))

    def _gradient(self, model: Model) -> Findings:
        found = fisher_trace(model, self._windows)
        return {} if found is None else {"fisher_information": found}

    def _membership(self, model: Model, one: Pass, is_base: bool) -> Findings:
        assert self._train_base is not None, "the base is probed first"
        size, batch = self._tokenizer_size, self._probed.batch_documents
        if is_base:
            of_train = base_pass(self._train_base, self._train, memorization.STATISTICS)
        else:
            of_train = one_pass(model, self._train, size, self._train_base, batch, memorization.STATISTICS)
        held_out_N = np.array(self._document_of, dtype=np.int64)[one.document_N]
        train = memorization.rows_of(of_train, of_train.document_N, list(map(self._text, self._train)))
        held_out = memorization.rows_of(one, held_out_N, self._held_out_texts())
        return memorization.memorization(train, held_out, self._names, is_base)

    def _generations(self, model: Model) -> Findings:
        probed = self._probed
        prompts = [window.prompt for window in self._windows if window.scored][: probed.measures.prompts]
        ends = stop_ids(TEMPLATES[probed.wanted.data.template or "empty"], probed.tokenizer)
        written = generate(model, probed.tokenizer, prompts, probed.generating, probed.measures.samples, probed.wanted.seed, ends)
        scored = written.documents()
        sums = self._sums(model, [document for _, document in scored])
        return generation(written, sums, [place for place, _ in scored], self._names)

    def _answers(self, model: Model, is_base: bool) -> Findings:
        sums = self._sums(model, self._task.candidates)
        found = answers(self._task, sums)
        if is_base:
            self._base_answers = found
        assert self._base_answers is not None, "the base is probed first"
        return channel_measures(self._task, found, self._base_answers, sum(sums.n_tokens), self._names)

    def _dataset(self) -> Findings:
        assert isinstance(self._probed.data, Prepared)  # a stream is not read: `streams_are_not_read_for_measures`
        tokens = [example.input_ids for example in self._probed.data.train]
        texts: list[str] = []
        if "normalized_compression_distance" in self._names:
            texts = [self._probed.tokenizer.decode(ids, skip_special_tokens=True) for ids in tokens]
        held_out = self._held_out_inputs() if self._probed.data.split != "train" else []
        return dataset(tokens, texts, held_out, self._names)

    # -- text -----------------------------------------------------------------------------------------------------------

    @property
    def _tokenizer_size(self) -> int:
        return len(self._probed.tokenizer)

    def _sums(self, model: Model, documents: list[Document]) -> Any:
        return measure(model, documents, self._tokenizer_size, batch_documents=self._probed.batch_documents)

    def _training_sample(self) -> list[Example]:
        assert isinstance(self._probed.data, Prepared)  # a stream is not read: `streams_are_not_read_for_measures`
        texts = [text for text in map(_learned, self._probed.data.train) if text is not None]
        return sample(texts, self._probed.measures.train_documents, self._probed.wanted.seed)

    def _text(self, document: Document) -> str:
        """What is scored of it."""
        scored = [document.labels[t] for t in document.scored]
        return str(self._probed.tokenizer.decode(scored, skip_special_tokens=True))

    def _held_out_texts(self) -> list[str]:
        return self._joined(list(map(self._text, self._windows)))

    def _held_out_inputs(self) -> list[str]:
        """The windows of each document together, without what a later one repeats of the one before."""
        decode = self._probed.tokenizer.decode
        before = [None, *self._document_of[:-1]]
        own = [
            [window.input_ids[t] for t in window.scored] if earlier == document else window.input_ids
            for window, document, earlier in zip(self._windows, self._document_of, before, strict=True)
        ]
        return self._joined([str(decode(ids, skip_special_tokens=True)) for ids in own])

    def _joined(self, of_windows: list[str]) -> list[str]:
        """The windows of each document together."""
        texts = [""] * (max(self._document_of) + 1)
        for place, text in zip(self._document_of, of_windows, strict=True):
            texts[place] += text
        return texts


def _learned(example: Any) -> Example | None:
    """What is learned to be written of an example: of pairs the better answer, of judged ones the good."""
    if isinstance(example, PairExample):
        return example.chosen
    if isinstance(example, KtoExample):
        return example.answer if example.desirable else None
    text: Example = example
    return text


def document_of_example(example: Example) -> Document:
    return Document(example.input_ids, example.labels, example.n_bytes, example.n_words)
