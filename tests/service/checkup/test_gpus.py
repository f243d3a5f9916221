"""torch, the driver and the GPUs, as a host could have them."""

from pathlib import Path

import pytest

from service.checkup.finding import Level
from service.checkup.gpus import Driver, Torch, cards, gpus, read_torch, told

CPU, CUDA_13 = Torch("2.13.0+cpu", None), Torch("2.13.0", (13, 0))
H100 = ("NVIDIA H100 80GB HBM3",)


def worst(torch: Torch | None, driver: Driver | None, n_cards: int) -> tuple[Level, str]:
    """The level of the worst finding, and what it says with what mends it."""
    levels = list(Level)
    found = max(told(torch, driver, n_cards), key=lambda finding: levels.index(finding.level))
    return found.level, f"{found.said} {found.mend}"


@pytest.mark.parametrize(
    ("torch", "driver", "n_cards", "level", "words"),
    [
        (CUDA_13, Driver("580.65", (13, 0), H100), 1, Level.WELL, ""),
        (CUDA_13, Driver("590.10", (14, 1), H100), 1, Level.WELL, ""),
        (Torch("2.13.0", (13, 2)), Driver("580.65", (13, 0), H100), 1, Level.WELL, ""),  # of one major version
        (
            CUDA_13,
            Driver("535.104", (12, 2), H100),
            1,
            Level.FAULT,
            "serves 12.2 at most. Update NVIDIA's driver to one for CUDA 13",
        ),
        (
            CPU,
            Driver("580.65", (13, 0), H100),
            1,
            Level.FAULT,
            "built for processors. pip install --force-reinstall torch==2.13.0 ",
        ),
        (CUDA_13, None, 2, Level.FAULT, "2 NVIDIA GPUs are here, and no driver answers for them. Install NVIDIA's driver"),
        (CPU, None, 0, Level.NOTE, "jobs train on the processor"),
        (None, None, 0, Level.NOTE, ""),
        (None, Driver("580.65", (13, 0), H100), 1, Level.NOTE, "no worker can run here. pip install 'finebits[worker]'"),
    ],
)
def test_what_does_not_go_together_is_a_fault_with_what_mends_it(
    torch: Torch | None, driver: Driver | None, n_cards: int, level: Level, words: str
) -> None:
    found, said = worst(torch, driver, n_cards)
    assert found is level
    assert words in said


def test_torch_is_known_by_its_file_alone() -> None:
    head = "from typing import Optional\n__version__ = '{}'\ndebug = False\ncuda: Optional[str] = {}\ngit_version = 'c'\n"
    assert read_torch(head.format("2.13.0+cpu", "None")) == CPU
    assert read_torch(head.format("2.13.0", "'13.0'")) == CUDA_13
    assert read_torch("") is None


def test_cards_are_counted_on_the_bus(tmp_path: Path) -> None:
    for number, (vendor, kind) in enumerate([("0x10de", "0x030200"), ("0x10de", "0x040300"), ("0x8086", "0x030000")]):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "vendor").write_text(f"{vendor}\n")
        (folder / "class").write_text(f"{kind}\n")
    (tmp_path / "3").mkdir()
    assert cards(tmp_path) == 1


def test_this_host_can_be_looked_at() -> None:
    assert {finding.about for finding in gpus()} >= {"torch", "driver"}
