"""export: a model written to be used elsewhere, and proof that it is the one that was trained."""

import json
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase
from transformers.trainer import TRAINER_STATE_NAME

from service.specs.measures import MeasureArguments
from service.specs.reasons import Reason
from worker import checkpoints, disk
from worker.data.load import holds, load_judged, load_pairs, load_pretraining, load_supervised
from worker.data.templates import TEMPLATES
from worker.export import adapter, card, certificate, modelfile, weights
from worker.export.certificate import Certificate, Limits, certify
from worker.export.ends import name_ends
from worker.export.publishing import RECORD, publish, refuse_taken
from worker.export.text import Text, drawn, of_examples
from worker.export.tokenizer import write_tokenizer
from worker.failures import JobFailure
from worker.interruption import interruptible
from worker.models import value_head
from worker.models.assembly import computes_in, frozen, to_write
from worker.models.loading import load_tokenizer, refuse_small_vocabulary
from worker.models.start import SavedAdapter, Start
from worker.probes.report import report
from worker.run import Run
from worker.stages.bringing import bring
from worker.stages.measuring import by_document
from worker.stages.pushing import pushed
from worker.stages.quantizing import calibration_of, quantized
from worker.stages.step import StepWork
from worker.stages.training import add_template_tokens, notice

NUMBER = 0  # of the one checkpoint that the step makes: no update is its own

MEASURED = ("cross_entropy", "kl_from_base", "kl_to_base")

LOADERS = {"pt": load_pretraining, "sft": load_supervised, "dpo": load_pairs}


def export(work: StepWork, run: Run) -> tuple[Path, dict[str, Any]]:
    """The folder among the artifacts, and under its name among the exports where it has one; and what a summary says of it."""
    name, overwrite = work.step.model.export_dir, work.step.export.overwrite
    if name is not None:
        refuse_taken(work.exports_root, name, work.job_id, work.name, overwrite)
    folder = _written_before(work, run)
    if folder is None:
        folder = _write(work, run)
    run.check()
    if name is not None:
        work.exports_root.mkdir(parents=True, exist_ok=True)
        publish(folder, work.exports_root, name, work.job_id, work.name, overwrite)
    pushed_to = pushed(work, run, folder)
    found = json.loads((folder / certificate.FILE).read_text(encoding="utf-8"))
    files = checkpoints.listed(folder)
    summary = {"export_dir": name, "files": len(files), "bytes": sum(file["size"] for file in files), "certificate": found}
    return folder, summary | ({} if pushed_to is None else {"pushed": pushed_to})


def _written_before(work: StepWork, run: Run) -> Path | None:
    """By an attempt that did not come to its end; whole on this host."""
    return next((folder for saved in work.saved if (folder := bring(run, work.name, work.artifacts_root, saved))), None)


def _write(work: StepWork, run: Run) -> Path:
    """Sealed and told of, or not there at all."""
    run.progress(phase="exporting")
    disk.require(work.artifacts_root, work.checkpoint_bytes, work.kept_free_bytes, "The export")
    tokenizer = load_tokenizer(work.model)
    add_template_tokens(run, work, tokenizer)
    with interruptible(run):
        calibration = calibration_of(work, tokenizer)
    folder = work.folder / f"{checkpoints.PREFIX}-{NUMBER}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        with interruptible(run):
            dtype, hashed = _write_weights(work, tokenizer, folder)
            write_tokenizer(tokenizer, _template(work), folder)
        run.progress(phase="certifying")
        text = _text(work, run, tokenizer)
        certified = partial(_certified, work, tokenizer, folder, text)
        with interruptible(run):
            found = certified(Limits(work.step.export.certificate_mean_kl, work.step.export.certificate_max_kl))
        if calibration is not None:
            found = quantized(work, run, folder, calibration, certified)
            dtype, hashed = f"{work.step.model.export_quantization_bit} bits (GPTQ)", {}
        with interruptible(run):
            _write_beside(work, tokenizer, folder, dtype, found)
            files = checkpoints.seal(folder, hashed)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    _tell_measures(work, run, text, found)
    run.checkpoint(work.name, NUMBER, folder, 0.0, None, files)
    _tell(work, run, files, found)
    return folder


def _write_weights(work: StepWork, tokenizer: PreTrainedTokenizerBase, folder: Path) -> tuple[str, dict[str, str]]:
    """And the value head where the model has one. The type of its numbers, and what is known of its files' SHA-256."""
    model_arguments, asked = work.step.model, work.step.export
    head = value_head.file_in(value_head.folder_of(work.start))
    if head is not None:
        shutil.copyfile(head, folder / head.name)
    if asked.adapter_only:
        return adapter.write(_only_adapter(work.start), folder, _base_name(work)), {}
    model = to_write(work.start, None if asked.dtype == "auto" else getattr(torch, asked.dtype))
    refuse_small_vocabulary(work.start.whole, model, tokenizer)
    template = _template(work)
    if template is not None:
        name_ends(model.generation_config, template, tokenizer)
    hashed = weights.write(model, folder, model_arguments.export_size, model_arguments.export_legacy_format)
    return str(model.dtype).removeprefix("torch."), hashed


def _only_adapter(start: Start) -> SavedAdapter:
    if len(start.adapters) != 1:
        lie = f"There are {len(start.adapters)} adapters, one on another" if start.adapters else "There is no adapter"
        raise JobFailure(Reason.BAD_MODEL, f"{lie}: export the model whole (export.adapter_only false).")
    return start.adapters[0]


def _certified(work: StepWork, tokenizer: PreTrainedTokenizerBase, folder: Path, text: Text, limits: Limits) -> Certificate:
    """Whatever it was trained in, it is compared in what it computes with."""
    step, device = work.step, torch.device("cpu" if work.use_cpu else "cuda")
    of_adapter = replace(work.start.as_trained, continued=SavedAdapter(work.name, folder))
    return certify(
        lambda: frozen(work.start.as_trained, step, tokenizer, device, sparing=True),
        folder,
        tokenizer,
        text,
        device,
        computes_in(step, device),
        limits,
        step.training.per_device_eval_batch_size,
        (lambda: frozen(of_adapter, step, tokenizer, device, sparing=True)) if step.export.adapter_only else None,
    )


def _text(work: StepWork, run: Run, tokenizer: PreTrainedTokenizerBase) -> Text:
    """What the step's data holds out, or rows of it where it holds nothing out, or no language at all where there is no data."""
    step = work.step
    if not step.data.dataset:
        text = drawn(tokenizer, step.data.cutoff_len)
        notice(run, work, f"no data set is named, so the certificate is taken on {text.source}.")
        return text
    n = step.export.certificate_documents
    wanted = replace(work.wanted, measures=MeasureArguments(max_documents=n, train_documents=n), reads_training=False)
    is_judged = step.finetuning.stage == "dpo" and holds(work.places, wanted) == "labels"
    data = (load_judged if is_judged else LOADERS[step.finetuning.stage])(work.places, wanted, tokenizer)
    of = ", ".join(step.data.dataset)
    return of_examples(data.evaluation, f"held-out rows of {of}" if data.split == "validation" else f"rows of {of}", data.split)


def _write_beside(work: StepWork, tokenizer: PreTrainedTokenizerBase, folder: Path, dtype: str, found: Certificate) -> None:
    made = card.Made(
        name=work.step.model.export_dir or work.name,
        job_id=work.job_id,
        step=work.name,
        model=work.step.model.model_name_or_path,
        whole=_base_name(work),
        adapters=tuple(adapter.name for adapter in work.start.adapters),
        by=work.made_by,
        dtype=dtype,
        is_adapter=work.step.export.adapter_only,
        train_loss=_train_loss(work.start),
    )
    _write_json(folder / certificate.FILE, found.to_document())
    _write_json(folder / RECORD, card.record(made, found))
    (folder / card.FILE).write_text(card.card(made, found), encoding="utf-8")
    if not made.is_adapter and found.rate_distortion is None:  # Ollama takes neither
        (folder / modelfile.FILE).write_text(modelfile.modelfile(_template(work), tokenizer), encoding="utf-8")


def _write_json(file: Path, document: dict[str, Any]) -> None:
    file.write_text(json.dumps(document, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def _template(work: StepWork) -> Any:
    return None if work.step.data.template is None else TEMPLATES[work.step.data.template]


def _base_name(work: StepWork) -> str:
    """What everything goes back to, as jobs call it and not as this host does."""
    return work.base_name or work.start.whole.name


def _train_loss(start: Start) -> float | None:
    """The trainer's last word on its loss; None of what no job trained."""
    file = (start.adapters[-1].folder if start.adapters else start.whole) / TRAINER_STATE_NAME
    if not file.is_file():
        return None
    history = json.loads(file.read_text(encoding="utf-8"))["log_history"]
    return next((float(entry["loss"]) for entry in reversed(history) if "loss" in entry), None)


def _tell_measures(work: StepWork, run: Run, text: Text, found: Certificate) -> None:
    """As of a checkpoint: what was trained is its base."""
    assert found.of_reference is not None
    assert found.of_export is not None
    base, written = by_document(found.of_reference, text.document_of), by_document(found.of_export, text.document_of)
    rows = [row for row in report({NUMBER: written}, base) if row["measure"] in MEASURED]
    run.measurement(work.name, None, text.split, base.to_json(), [row for row in rows if row["global_step"] is None])
    run.measurement(work.name, NUMBER, text.split, written.to_json(), [row for row in rows if row["global_step"] == NUMBER])


def _tell(work: StepWork, run: Run, files: list[dict[str, Any]], found: Certificate) -> None:
    size = sum(file["size"] for file in files)
    run.event(
        "exported",
        f"{work.name}: {len(files)} files of {size / 1e6:.1f} MB are written. {found.sentence()}.",
        step=work.name,
        files=len(files),
        bytes=size,
        certificate=found.to_document(),
    )
