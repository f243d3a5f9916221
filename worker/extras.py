"""What this worker has installed beside what every worker has, by the name of the extra that brings it."""

from importlib.util import find_spec

EXTRAS = {"eval": ("lm_eval",), "gptq": ("gptqmodel", "optimum"), "modelscope": ("modelscope",), "unsloth": ("unsloth",)}


def installed() -> tuple[str, ...]:
    """Looked for without being imported: they are large, and the worker itself never imports torch."""
    return tuple(extra for extra, libraries in EXTRAS.items() if not missing(extra))


def missing(extra: str) -> list[str]:
    """Its libraries that are not here."""
    return [library for library in EXTRAS[extra] if find_spec(library) is None]
