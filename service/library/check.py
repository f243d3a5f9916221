"""Whether what a job names is there: its models and its data sets, as the operator's folders hold them now.

Read without torch, so that a wrong name is refused when the job comes and not twenty minutes later by a worker.
"""

import time
from collections.abc import Hashable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from service.library import benchmarks, datasets, models, rewards, tokenizers, weights
from service.library.datasets import Hub, Known
from service.library.errors import LibraryError
from service.library.models import Model
from service.library.training_files import Uploaded
from service.specs.checkpoint_names import CheckpointName, exported_by, of_earlier
from service.specs.companions import Companion, companions
from service.specs.dataset_info import ALONE, DatasetInfoError
from service.specs.job import JobSpec, ResolvedJob, ResolvedStep
from service.specs.lineage import Lineage, lineage, lineages, origin
from service.specs.read import place_of
from service.specs.refusals import Refusal
from service.specs.roots import OutsideRoot, inside, is_repository
from service.specs.tokens import FIELDS

# Whose attention is Llama's, and whose files can be read as they are; the worker's lists, and a test holds them equal.
SHIFTED_FAMILIES = ("llama",)
QUANTIZED = ("bitsandbytes", "gptq")
UNSLOTH_FAMILIES = ("gemma", "gemma2", "llama", "mistral", "qwen2", "qwen3")


@dataclass(frozen=True)
class Roots:
    """The folders that the operator opens to jobs, and the hubs that may be reached."""

    models: Path
    datasets: Path
    hub: bool = False
    modelscope: bool = False
    secrets: bool = False  # whether tokens can be kept: with a key to encrypt them
    reward_hosts: tuple[str, ...] = ()  # whose reward APIs may be asked
    mlflow: bool = False  # whether there is a server of MLflow to report to
    uploaded: tuple[tuple[str, Uploaded], ...] = ()  # the data sets that were uploaded and that the job names
    exports: Path | None = None  # where exports are published; None: that is not looked at
    hub_push: bool = False
    written: tuple[Path, ...] = ()  # the folders that jobs and clients write into

    @property
    def hubs(self) -> frozenset[Hub]:
        if not self.hub:
            return frozenset()
        return frozenset(("huggingface", "modelscope") if self.modelscope else ("huggingface",))


class FoundWell:
    """What was found well moments ago: the jobs of a sweep name the same model and data, and come one after another.

    What is wrong is looked at anew each time; and the worker looks again, whenever that will be.
    """

    def __init__(self, seconds: float = 1.0, most: int = 1000):
        self._seconds = seconds
        self._most = most
        self._found: dict[Hashable, float] = {}

    def __contains__(self, looked_at: Hashable) -> bool:
        at = self._found.get(looked_at)
        return at is not None and time.monotonic() - at < self._seconds

    def add(self, looked_at: Hashable) -> None:
        if len(self._found) >= self._most:
            self._found.clear()
        self._found[looked_at] = time.monotonic()


def check(roots: Roots, spec: JobSpec, resolved: ResolvedJob, well: FoundWell | None = None) -> Iterator[Refusal]:
    """Every model and data set that is not there or cannot be used, at its place in the document's nested form."""
    known, steps = lineages(resolved), {step.name: step for step in resolved.steps}
    for index, step in enumerate(resolved.steps):
        own = known[step.name]
        beside = [(companion, lineage(companion.step, steps, known)) for companion in companions(step)]
        starts = tuple((start, origin(start.whole, known)) for start in (own, *(start for _, start in beside)))
        alone = step.training.per_device_train_batch_size == 1
        asked = (step.do, step.model, step.data, step.finetuning, step.measures, step.evaluation, step.export)
        looked_at = (roots, starts, asked, step.training.report_to, alone)
        if well is not None and looked_at in well:
            continue
        complaints = list(_complaints(roots, step, own, known))
        for companion, start in beside:
            complaints += _beside(roots, companion, start, step, known)
        complaints += rewards.why_not(roots.models, roots.reward_hosts, step, roots.secrets)
        # a reward adapter is looked at on the step's own model, of which everything has been said
        for argument, why in dict.fromkeys(complaints):
            yield Refusal(place_of(spec, index, argument), why)
        if well is not None and not complaints:
            well.add(looked_at)


def _complaints(roots: Roots, step: ResolvedStep, own: Lineage, known: Mapping[str, Lineage]) -> "Complaints":
    base = _found(roots, origin(own.whole, known))
    named = (step.model.model_name_or_path, *(step.model.adapter_name_or_path or ()))
    elsewhere = {name for name in named if is_elsewhere(roots, name)}
    if step.model.model_name_or_path not in elsewhere and exported_by(step) is None:
        yield from _model(roots, step, own)
    yield from _adapters(roots, step, base, elsewhere)
    yield from _hub(roots, step, {name for name in elsewhere if is_on_hub(roots, name)})
    yield from _loading(step, own, base)
    if step.do == "export":
        yield from _export(roots, step, base)
    if step.do == "evaluate":
        yield from benchmarks.why_not(roots.datasets, step, roots.written)
        return
    if step.do != "export" or step.data.dataset or step.model.export_quantization_dataset:
        yield from _folder_of_data(roots, step)
    yield from _training_data(roots, step)
    yield from _measured_data(roots, step)
    if "mlflow" in step.training.report_to and not roots.mlflow:
        yield "training.report_to", "There is no MLflow server to report to: the operator has set no FINEBITS_MLFLOW_URL."


Complaints = Iterator[tuple[str, str]]


def _model(roots: Roots, step: ResolvedStep, own: Lineage) -> Complaints:
    name = step.model.model_name_or_path
    if name.startswith("@"):
        return  # what an earlier step will make; `references_point_back` has looked at it
    try:
        model = models.find(roots.models, name)
        if own.continued is None:
            weights.fit(model, step.finetuning)
    except LibraryError as error:
        yield error.argument or "model.model_name_or_path", str(error)
    except OSError as error:
        yield "model.model_name_or_path", f"The model {name!r} cannot be read: {error.strerror}."


def _beside(roots: Roots, beside: Companion, own: Lineage, step: ResolvedStep, known: Mapping[str, Lineage]) -> Complaints:
    """Of a model that the step asks beside its own: all that is looked at of a model, and whether both read the same tokens."""
    base = _found(roots, origin(own.whole, known))
    elsewhere = {name for name in (own.whole, *own.adapters) if is_elsewhere(roots, name)}
    said = [*_adapters(roots, beside.step, base, elsewhere), *_loading(beside.step, own, base)]
    if own.whole not in elsewhere:
        said = [*_model(roots, beside.step, own), *said]
    place = beside.argument("model.model_name_or_path")
    for argument, what in said:
        # what it has of the step, such as the attention, is named as the step's: here it is the companion that does not go along
        name = beside.argument(argument)
        yield (place if name == argument else name), what
    model = _found(roots, origin(step.model.model_name_or_path, known))
    if base is not None and model is not None and (why := tokenizers.why_not_the_same(model, base)):
        yield place, why


def is_elsewhere(roots: Roots, name: str) -> bool:
    """Whether a worker has it and this host may not: it lies on a hub, or is a checkpoint of an earlier job."""
    return of_earlier(name) is not None or is_on_hub(roots, name)


def is_on_hub(roots: Roots, name: str) -> bool:
    """Whether a worker will look for it there: what lies in the models folder comes first."""
    if not roots.hub or not is_repository(name) or CheckpointName.read(name) is not None:
        return False
    try:
        return not inside(roots.models, name).is_dir()
    except OutsideRoot:
        return False


def _hub(roots: Roots, step: ResolvedStep, on_hub: set[str]) -> Complaints:
    arguments = step.model
    given = {
        "cache_dir": arguments.cache_dir is not None,
        "model_revision": arguments.model_revision != "main",
        "hf_hub_token": arguments.hf_hub_token is not None,
        "ms_hub_token": arguments.ms_hub_token is not None,
    }
    for name in (name for name, is_given in given.items() if is_given):
        if not roots.hub:
            yield f"model.{name}", "Hubs are not reached here: the operator has not set FINEBITS_HUB."
        elif name == "ms_hub_token" and not roots.modelscope:
            why = (
                "ModelScope is not reached here: the operator has not set USE_MODELSCOPE_HUB. Hugging Face's takes hf_hub_token."
            )
            yield f"model.{name}", why
        elif name in FIELDS and not roots.secrets:
            yield f"model.{name}", "Tokens are kept encrypted, and the operator has set no FINEBITS_SECRET_KEY to do it with."
        elif name not in FIELDS and not on_hub:
            yield f"model.{name}", f"This has no effect: {arguments.model_name_or_path!r} does not come from a hub."
    if arguments.cache_dir is not None:
        try:
            inside(roots.models, arguments.cache_dir)
        except OutsideRoot as error:
            yield "model.cache_dir", str(error)


def _adapters(roots: Roots, step: ResolvedStep, base: Model | None, elsewhere: set[str]) -> Complaints:
    for name in step.model.adapter_name_or_path or ():
        if name.startswith("@") or name in elsewhere:
            continue
        try:
            adapter = models.find_adapter(roots.models, name)
            if base is not None:
                weights.fit_adapter(base, adapter)
        except LibraryError as error:
            yield "model.adapter_name_or_path", str(error)
        except OSError as error:
            yield "model.adapter_name_or_path", f"The adapter {name!r} cannot be read: {error.strerror}."


def _loading(step: ResolvedStep, own: Lineage, model: Model | None) -> Complaints:
    """What the model itself does not go along with."""
    if model is None:
        return
    kind, method = model.config.get("model_type"), models.quantized_with(model)
    if step.model.shift_attn and kind not in SHIFTED_FAMILIES:
        yield "model.shift_attn", f"Shifted sparse attention is for {', '.join(SHIFTED_FAMILIES)} models; this is a {kind} one."
    if step.do == "train" and step.model.use_unsloth:
        yield from _unsloth(step, model)
    if step.model.rope_scaling is not None and (why := _unscalable(model.config, step.model.rope_scaling)):
        yield "model.rope_scaling", why
    if method is None:
        return
    if method not in QUANTIZED:
        yield "model.model_name_or_path", f"The model is quantized with {method}; {', '.join(QUANTIZED)} are taken."
    if step.finetuning.finetuning_type != "lora":
        yield "finetuning.finetuning_type", f"The model {model.name!r} is quantized, so it can only be trained with lora."
    elif own.merged:
        yield "model.adapter_name_or_path", f"The model {model.name!r} is quantized, and no adapter can be merged into it."


def _unsloth(step: ResolvedStep, model: Model) -> Complaints:
    kind, longest = model.config.get("model_type"), model.config.get("max_position_embeddings")
    if kind not in UNSLOTH_FAMILIES:
        yield "model.use_unsloth", f"unsloth's kernels are for {', '.join(UNSLOTH_FAMILIES)} models; this is a {kind} one."
    if models.quantized_with(model) is not None:
        yield "model.use_unsloth", f"The files of {model.name!r} are quantized already, which trains without unsloth only."
    if isinstance(longest, int) and step.data.cutoff_len > longest:
        why = f"unsloth would stretch the positions of {model.name!r}, which has {longest}, by itself: leave out use_unsloth"
        yield "data.cutoff_len", f"{why} or take shorter texts."


def _export(roots: Roots, step: ResolvedStep, model: Model | None) -> Complaints:
    if model is not None and (method := models.quantized_with(model)) is not None:
        yield "model.model_name_or_path", f"The model {model.name!r} is quantized ({method}): only full precision is exported."
    if step.model.export_quantization_bit is not None and (corpus := step.model.export_quantization_dataset) is not None:
        yield from _data(roots, step, "model.export_quantization_dataset", (corpus,), of_any_kind=True)
    if step.model.export_hub_model_id is not None and not (roots.hub and roots.hub_push):
        why = "Nothing is pushed to hubs from here: the operator has not set FINEBITS_HUB and FINEBITS_HUB_PUSH."
        yield "model.export_hub_model_id", why
    name = step.model.export_dir
    if name is None or roots.exports is None or step.export.overwrite:
        return
    with suppress(OutsideRoot):  # the rules have looked at the name
        if inside(roots.exports, name).exists():
            yield "model.export_dir", f"There is an export {name!r} already: give another name, or set export.overwrite."


def _unscalable(config: dict[str, Any], rope_type: str) -> str | None:
    if not isinstance(config.get("max_position_embeddings"), int):
        return "The model's config has no max_position_embeddings to scale."
    scaled = config.get("rope_parameters") or config.get("rope_scaling") or {}
    before = scaled.get("rope_type", scaled.get("type", "default")) if isinstance(scaled, dict) else "default"
    return None if before in ("default", rope_type) else f"The model's positions are scaled already ({before})."


def _found(roots: Roots, name: str) -> Model | None:
    """A model of the operator's; None for what a step makes, and for what `_model` complains of."""
    try:
        return None if name.startswith("@") else models.find(roots.models, name)
    except (LibraryError, OSError):
        return None


def known_to(roots: Roots, step: ResolvedStep) -> Known:
    """The data sets that a step may name. Raises LibraryError."""
    return datasets.entries(roots.datasets, step.data.dataset_dir, dict(roots.uploaded))


def _folder_of_data(roots: Roots, step: ResolvedStep) -> Complaints:
    try:
        known_to(roots, step)
    except LibraryError as error:
        yield "data.dataset_dir", str(error)


def _training_data(roots: Roots, step: ResolvedStep) -> Complaints:
    yield from _data(roots, step, "data.dataset", step.data.dataset)
    kinds = set(_kinds(roots, step))
    if len(kinds) > 1 and step.finetuning.stage == "dpo":
        yield "data.dataset", "Some of the data sets hold pairs and some labels (kto_tag): a step learns from one or the other."
    if kinds == {"labels"} and step.training.per_device_train_batch_size == 1:
        yield "training.per_device_train_batch_size", ALONE


def _measured_data(roots: Roots, step: ResolvedStep) -> Complaints:
    yield from _data(roots, step, "measures.dataset", step.measures.dataset)
    yield from _data(roots, step, "measures.anchor", step.measures.anchor)
    yield from _data(roots, step, "measures.task", None if step.measures.task is None else (step.measures.task,))


def _kinds(roots: Roots, step: ResolvedStep) -> Iterator[str]:
    """What the rows of each data set are, for those that can be used."""
    for name in (*(step.data.dataset or ()), *(step.measures.dataset or ())):
        with suppress(LibraryError, DatasetInfoError, KeyError):
            yield known_to(roots, step).by_name[name].holds


def _data(
    roots: Roots, step: ResolvedStep, argument: str, names: tuple[str, ...] | None, of_any_kind: bool = False
) -> Complaints:
    for name in names or ():
        try:
            known = known_to(roots, step)
        except LibraryError:
            return  # said once, of the folder
        try:
            if of_any_kind:
                datasets.corpus(known, name, step.data.split, roots.hubs)
            else:
                datasets.find(known, name, step.finetuning, step.data.split, roots.hubs)
        except LibraryError as error:
            yield error.argument or argument, str(error)
        except OSError as error:
            yield argument, f"The data set {name!r} cannot be read: {error.strerror}."
