"""The loss curve as a picture, for those who set plot_loss."""

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from worker import checkpoints
from worker.run import Run
from worker.stages.training import trainer_state


def plot_loss(run: Run, step: str, last_checkpoint: Path, folder: Path, unit: str | None = "nats/token") -> None:
    """One point for each point of the training series, as the last checkpoint has them: a resumed run's curve is whole.

    `folder` is this attempt's own, which the last checkpoint's need not be. A loss of several parts has no unit.
    """
    points = [entry for entry in trainer_state(last_checkpoint)["log_history"] if entry.get("window")]
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "training_loss.png"
    draw(points, step, unit).savefig(file, dpi=120)
    described = checkpoints.describe(folder, file)
    run.artifact(f"{step}/{file.name}", file, described["size"], described["sha256"])


def draw(points: list[dict[str, Any]], step: str, unit: str | None = "nats/token") -> Figure:
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    axes.plot([point["step"] for point in points], [point["loss"] for point in points], marker=".", linewidth=1)
    axes.set(title=f"Training loss of {step}", xlabel="update", ylabel=f"loss ({unit})" if unit else "loss")
    axes.grid(alpha=0.3)
    return figure
