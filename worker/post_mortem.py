"""What an exit code tells of a process that did not say how it ended."""

import signal


def post_mortem(who: str, exit_code: int) -> str:
    """A sentence. `exit_code` is −n where signal n ended it."""
    if exit_code >= 0:
        return f"{who} ended with code {exit_code} and did not say why."
    try:
        name = signal.Signals(-exit_code).name
    except ValueError:
        name = f"signal {-exit_code}"
    hint = " (often because the host ran out of memory)" if name == "SIGKILL" else ""
    return f"{who} was ended by {name}{hint}."
