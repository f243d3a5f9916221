"""What lies beside an export for people and programs: the model card, and the record of what it was made of."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from service.specs.base import Group
from service.specs.job import ResolvedStep
from service.specs.tokens import FIELDS
from service.specs.version import SPEC_VERSION
from worker.export.certificate import Certificate, Mean
from worker.export.rate_distortion import RateDistortion

FILE = "README.md"

# The groups of a step that say how its model came to be, and the secrets that are in them.
_GROUPS = ("data", "finetuning", "training")
_SECRETS: set[str] = set(FIELDS)


@dataclass(frozen=True)
class Made:
    """What an export is, for its card."""

    name: str
    job_id: str
    step: str
    model: str  # as the job has it
    whole: str  # what everything goes back to
    adapters: tuple[str, ...]  # in the order in which they were merged
    by: tuple[tuple[str, ResolvedStep], ...]  # the steps that trained it, in order
    dtype: str
    is_adapter: bool
    train_loss: float | None  # nats a token, of the last updates


def record(made: Made, certificate: Certificate) -> dict[str, Any]:
    """export.json: all that is known of it, for programs."""
    return {
        "job_id": made.job_id,
        "step": made.step,
        "spec_version": SPEC_VERSION,
        "model": made.model,
        "base": made.whole,
        "adapters": list(made.adapters),
        "is_adapter": made.is_adapter,
        "dtype": made.dtype,
        "train_loss": made.train_loss,
        "trained_by": [{"step": name, **_arguments(step, given_only=False)} for name, step in made.by],
        "certificate": certificate.to_document(),
    }


def card(made: Made, certificate: Certificate) -> str:
    """README.md, as hubs read it: a head of YAML, and then text."""
    what = "An adapter for" if made.is_adapter else "Made of"
    chain = " + ".join(f"`{name}`" for name in (made.whole, *made.adapters))
    parts = [
        _head(made),
        f"# {made.name}\n",
        f"{what} {chain}, in {made.dtype}. Written by the step `{made.step}` of {made.job_id}.\n",
        *_trained(made.by),
        _metrics(made, certificate),
        _certified(certificate),
        *_rounded(certificate.rate_distortion),
        "`export.json` has all of this for programs, `manifest.json` the SHA-256 of every file.\n",
    ]
    return "\n".join(parts)


def _head(made: Made) -> str:
    """JSON strings are YAML too."""
    datasets = list(dict.fromkeys(name for _, step in made.by for name in step.data.dataset or ()))
    head: dict[str, Any] = {
        "library_name": "peft" if made.is_adapter else "transformers",
        "pipeline_tag": "text-generation",
        "base_model": made.whole,
        **({"datasets": datasets} if datasets else {}),
    }
    return "\n".join(["---", *(f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in head.items()), "---", ""])


def _trained(by: Sequence[tuple[str, ResolvedStep]]) -> list[str]:
    if not by:
        return []
    lines = ["## How it was trained\n"]
    for name, step in by:
        fine = step.finetuning
        data = ", ".join(f"`{one}`" for one in step.data.dataset or ())
        lines.append(f"### `{name}`: {fine.stage}, {fine.finetuning_type}, on {data}\n")
        lines += ["| argument | |", "|---|---|"]
        given = _arguments(step, given_only=True)
        lines += [f"| {group}.{key} | `{_plain(value)}` |" for group, values in given.items() for key, value in values.items()]
        lines.append("")
    return lines


def _arguments(step: ResolvedStep, given_only: bool) -> dict[str, dict[str, Any]]:
    """Those that are not as they are by default, or all."""
    found = {}
    for name in _GROUPS:
        group: Group = getattr(step, name)
        found[name] = group.model_dump(mode="json", exclude_defaults=given_only, exclude=_SECRETS)
    found["model"] = step.model.model_dump(mode="json", exclude_defaults=given_only, exclude=_SECRETS)
    return found


def _plain(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _metrics(made: Made, certificate: Certificate) -> str:
    lines = ["## Metrics\n", "| | bits a token |", "|---|---|"]
    lines.append(f"| cross-entropy, {certificate.text} | {_told(certificate.cross_entropy_export)} |")
    if made.train_loss is not None:
        lines.append(f"| loss of the last updates (nats) | {made.train_loss:.4g} |")
    return "\n".join([*lines, ""])


def _certified(found: Certificate) -> str:
    """± is a standard error, clustered by document."""
    return "\n".join(
        [
            "## Certificate of equivalence\n",
            f"What was trained against what lies here, loaded again from these files; {found.n_tokens} tokens of "
            f"{found.n_documents} documents ({found.text}). ± is the standard error, clustered by document.\n",
            "| | mean | largest |",
            "|---|---|---|",
            f"| D(trained‖written), bits a token | {_told(found.kl_from_reference.mean)} | {found.kl_from_reference.max:.3g} |",
            f"| D(written‖trained), bits a token | {_told(found.kl_to_reference.mean)} | {found.kl_to_reference.max:.3g} |",
            f"| change of the cross-entropy, bits a token | {_told(found.cross_entropy_change)} | |",
            f"| same likeliest token | {_told(found.top_1_agreement)} | |",
            "",
        ]
    )


def _rounded(row: RateDistortion | None) -> list[str]:
    """What the weights cost and lost; the certificate has what that does to the answers."""
    if row is None:
        return []
    lines = [
        "## What rounding cost\n",
        "GPTQ, on the text that `calibration.json` names. No code of as many bits has a smaller error on Gaussian weights than "
        "the bound.\n",
        "| | |",
        "|---|---|",
        f"| bits a weight, as stored | {row.bits_per_weight:.4g} |",
        f"| bits a parameter of the whole model | {row.bits_per_parameter:.4g} |",
        f"| mean squared error of a weight | {row.weight_distortion:.3g} |",
        f"| variance of the weights | {row.weight_variance:.3g} |",
        f"| the Gaussian bound D(R) | {row.gaussian_bound:.3g} |",
        "",
    ]
    return ["\n".join(lines)]


def _told(mean: Mean) -> str:
    error = "" if mean.standard_error is None else f" ± {mean.standard_error:.2g}"
    return f"{mean.value:.4g}{error}"
