"""Whether torch can use this host's GPUs. Neither torch nor CUDA is loaded: torch is asked by its files, the GPUs by NVML."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from service.checkup.finding import Finding, fault, note, well

PCI = Path("/sys/bus/pci/devices")
NVIDIA, DISPLAY = "0x10de", "0x03"


@dataclass(frozen=True)
class Torch:
    """What is installed. `cuda`: what it was built for; None of a build for processors."""

    version: str
    cuda: tuple[int, int] | None


@dataclass(frozen=True)
class Driver:
    """`cuda`: the newest that it can serve."""

    version: str
    cuda: tuple[int, int]
    gpus: tuple[str, ...]


def gpus() -> Iterator[Finding]:
    """Of this host."""
    yield from told(installed_torch(), driver(), cards())


def told(torch: Torch | None, driver: Driver | None, cards: int) -> Iterator[Finding]:
    """`cards`: NVIDIA's, as the bus has them, with a driver or without."""
    if torch is None:
        yield note("torch", "It is not installed: no worker can run here.", "pip install 'finebits[worker]', for a worker.")
    else:
        built = "for processors" if torch.cuda is None else f"for CUDA {_dotted(torch.cuda)}"
        yield well("torch", f"{torch.version}, built {built}.")
    if driver is None:
        yield _without_driver(cards)
        return
    yield well("driver", f"{driver.version}, up to CUDA {_dotted(driver.cuda)}: {', '.join(driver.gpus) or 'no GPU'}.")
    if torch is not None and driver.gpus:
        yield from _together(torch, driver)


def _without_driver(cards: int) -> Finding:
    if not cards:
        return note("driver", "There is no NVIDIA GPU here: jobs train on the processor.")
    mend = "Install NVIDIA's driver until `nvidia-smi` answers; give a container the GPUs (docker compose has `gpus: all`)."
    return fault("driver", f"{cards} NVIDIA GPUs are here, and no driver answers for them.", mend)


def _together(torch: Torch, driver: Driver) -> Iterator[Finding]:
    """A driver serves each CUDA of its major version and those before: NVIDIA's CUDA Compatibility, on minor versions."""
    if torch.cuda is None:
        mend = f"pip install --force-reinstall torch=={torch.version.partition('+')[0]} from PyPI, whose Linux wheels have CUDA."
        yield fault("torch and driver", "There are GPUs, and torch was built for processors.", mend)
    elif torch.cuda[0] > driver.cuda[0]:
        said = f"torch needs CUDA {_dotted(torch.cuda)}, and the driver serves {_dotted(driver.cuda)} at most."
        mend = f"Update NVIDIA's driver to one for CUDA {torch.cuda[0]}, or install torch for CUDA {driver.cuda[0]}."
        yield fault("torch and driver", said, mend)
    else:
        yield well("torch and driver", "They fit.")


def installed_torch() -> Torch | None:
    found = find_spec("torch")
    if found is None or found.origin is None:
        return None
    text = Path(found.origin).with_name("version.py").read_text(encoding="utf-8")
    return read_torch(text)


def read_torch(text: str) -> Torch | None:
    """From its version.py."""
    values = dict(re.findall(r"^(__version__|cuda)\b[^=]*= '([^']+)'", text, re.MULTILINE))
    if "__version__" not in values:
        return None
    cuda = re.match(r"(\d+)\.(\d+)", values.get("cuda", ""))
    return Torch(values["__version__"], (int(cuda[1]), int(cuda[2])) if cuda else None)


def driver() -> Driver | None:
    """None where there is no library to ask it, or it does not answer."""
    try:
        nvml: Any = import_module("pynvml")
        nvml.nvmlInit()
        number = int(nvml.nvmlSystemGetCudaDriverVersion_v2())  # 13010 is 13.1
        handles = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
        names = tuple(str(nvml.nvmlDeviceGetName(handle)) for handle in handles)
        return Driver(str(nvml.nvmlSystemGetDriverVersion()), (number // 1000, number % 1000 // 10), names)
    except Exception:  # its errors are classes of a module that may not be there
        return None


def cards(folder: Path = PCI) -> int:
    """NVIDIA's GPUs on the bus."""

    def holds(device: Path, name: str, begins: str) -> bool:
        file = device / name
        return file.exists() and file.read_text().startswith(begins)

    return sum(holds(device, "vendor", NVIDIA) and holds(device, "class", DISPLAY) for device in folder.glob("*"))


def _dotted(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"
