"""How an export is quantized: the whole model is there first, and certified; then it is rounded, and told against what it was."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerBase

from worker.data.encoding import encode
from worker.data.load import corpus
from worker.export import gptq
from worker.export.calibration import Calibration, draw
from worker.export.certificate import Certificate, Limits
from worker.export.rate_distortion import rate_distortion
from worker.export.weights import GB
from worker.interruption import interruptible
from worker.models.loading import load_config, load_model
from worker.models.quantization import refuse_unreadable
from worker.run import Run
from worker.stages.step import StepWork


def calibration_of(work: StepWork, tokenizer: PreTrainedTokenizerBase) -> Calibration | None:
    """What the export will be quantized on; None where it is not. Raises JobFailure before anything is written: for want of text,
    or of the library.
    """
    asked = work.step.model
    if asked.export_quantization_bit is None:
        return None
    refuse_unreadable("gptq")
    name = asked.export_quantization_dataset or ""
    rows = corpus(work.places, work.step.data, name)
    n_windows, n_tokens = asked.export_quantization_nsamples, asked.export_quantization_maxlen
    found = draw(name, rows, lambda text: encode(text, tokenizer).ids, n_windows, n_tokens, work.step.training.seed)
    gptq.refuse_long_windows(load_config(work.start.whole), found)
    return found


def quantized(
    work: StepWork, run: Run, folder: Path, calibration: Calibration, certified: Callable[[Limits], Certificate]
) -> Certificate:
    """Puts the rounded model in the place of the whole one. What it was rounded from is gone afterwards."""
    bits = work.step.model.export_quantization_bit
    assert bits is not None, "there is a calibration only where there are bits"
    run.progress(phase="quantizing")
    whole = folder.with_name("whole")
    shutil.rmtree(whole, ignore_errors=True)
    folder.rename(whole)
    device = torch.device("cpu" if work.use_cpu else "cuda")
    try:
        shard_bytes = work.step.model.export_size * GB
        with interruptible(run):
            gptq.quantize(whole, folder, bits, calibration, shard_bytes, device, gptq.gptqmodel)
        run.progress(phase="certifying")
        with interruptible(run):
            found = certified(Limits(work.step.export.quantized_mean_kl, None))
            row = rate_distortion(load_model(whole, torch.float32), _loaded(folder, device), folder, bits)
    finally:
        shutil.rmtree(whole, ignore_errors=True)
    return replace(found, rate_distortion=row)


def _loaded(folder: Path, device: torch.device) -> torch.nn.Module:
    dtype = load_config(folder).dtype or torch.float32
    return load_model(folder, dtype, device=device)
