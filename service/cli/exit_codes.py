"""The exit codes of `finebits`, for scripts. docs/reference/cli.md has this table."""

from enum import IntEnum


class ExitCode(IntEnum):
    """What a command's exit code says."""

    def __new__(cls, value: int, meaning: str) -> "ExitCode":
        code = int.__new__(cls, value)
        code._value_ = value
        code.meaning = meaning
        return code

    meaning: str

    WELL = 0, "It is done. Of a job that was followed: it succeeded."
    FAILED = 1, "It failed: the job that was followed, or what the command itself did. Of `doctor`: something is broken."
    USAGE = 2, "What was typed, a file that was named, or a setting cannot be used; nothing was asked of the service."
    REFUSED = 3, "The service refused, or there is no such thing."
    UNREACHABLE = 4, "No service answers, or it cannot do it now (502, 503, 504): the same command may go well later."
    CANCELLED = 5, "The job that was followed was cancelled."
    WARNED = 6, "Of `doctor`: nothing is broken, but something should be looked at."
    INTERRUPTED = 130, "Ctrl-C. A job that was followed goes on."


# How the job ended that a command followed.
OF_STATE = {"succeeded": ExitCode.WELL, "failed": ExitCode.FAILED, "cancelled": ExitCode.CANCELLED}
