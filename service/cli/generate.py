"""finebits generate CHECKPOINT PROMPT"""

import sys

import typer

from service.cli.as_json import AsJson
from service.cli.connection import connected
from service.cli.exit_codes import ExitCode
from service.cli.screen import Screen, give_up, plain
from service.specs.checkpoint_names import CheckpointName


def generate(
    context: typer.Context,
    checkpoint: str = typer.Argument(metavar="CHECKPOINT", help="job-.../sft/40."),
    prompt: str = typer.Argument(metavar="PROMPT", help="What is said to it; - reads it from standard input."),
    max_new_tokens: int | None = typer.Option(None, help="The longest text."),
    temperature: float | None = typer.Option(None, help="The value used to modulate the next token probabilities."),
    greedy: bool = typer.Option(False, "--greedy", help="Draw nothing: the likeliest tokens."),
    seed: int | None = typer.Option(None, help="The same seed writes the same text."),
    as_json: AsJson = False,
) -> None:
    """See what a checkpoint writes, as it writes it.

    With --json, an object for each event of the stream, a line each.
    """
    name = CheckpointName.read(checkpoint)
    if name is None or name.job_id is None or not isinstance(name.at, int):
        give_up(f"{checkpoint!r} is no checkpoint of a job by its number: write job-.../sft/40", ExitCode.USAGE)
    given = {"max_new_tokens": max_new_tokens, "temperature": temperature, "seed": seed, "do_sample": False if greedy else None}
    asked = {key: value for key, value in given.items() if value is not None}
    screen, said = Screen(), sys.stdin.read() if prompt == "-" else prompt
    with connected(context) as client:
        for event, data in client.generate(name.job_id, name.at, name.step, prompt=said, **asked):
            if as_json:
                screen.json_line({"event": event, **data})
            elif event == "piece":
                print(plain(data["text"]), end="", flush=True)
            elif event == "done":
                print()
                screen.say(_cost(data))
            if event == "failed":
                give_up(f"{data['detail']} ({data['reason']})")


def _cost(data: dict[str, float]) -> str:
    bits = -data["log_probability"] / data["tokens"]
    return f"{data['tokens']} tokens ({data['finish_reason']}); {bits:.3f} bits a token, entropy {data['entropy']:.3f}"
