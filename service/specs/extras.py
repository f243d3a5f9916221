"""What a step needs of its worker beside what every worker has: extras, by the name that pip knows them by."""

from collections.abc import Iterator

from service.specs.job import ResolvedStep


def needed(step: ResolvedStep) -> Iterator[tuple[str, str]]:
    """(the argument that asks for it, the extra)"""
    if step.do == "export" and step.model.export_quantization_bit is not None:
        yield "model.export_quantization_bit", "gptq"
