"""Why a job ended other than well. Clients switch on the code; people read the sentence that stands beside it."""

from enum import StrEnum


class Reason(StrEnum):
    """A failed job's reason code."""

    BAD_ROW = "bad_row"  # a row of a data set cannot be used; file, row and column are named
    BAD_DATA = "bad_data"  # a data set as a whole cannot be used
    MISSING_DATA = "missing_data"  # a data set that was there at submission is gone
    BAD_MODEL = "bad_model"  # a model's files cannot be used, or do not have what the job names
    MISSING_MODEL = "missing_model"  # a model that was there at submission is gone
    UNREACHABLE_HUB = "unreachable_hub"  # a model could not be fetched: no such name, no right to it, or no way there
    UNREADABLE_TOKEN = "unreadable_token"  # the job's token was kept with another key than this worker's
    MISSING_LIBRARY = "missing_library"  # the job needs a library that this worker does not have
    NO_GPU = "no_gpu"  # the job needs a GPU and this worker has none
    OUT_OF_MEMORY = "out_of_memory"  # the device's or the host's memory was not enough
    OUT_OF_DISK = "out_of_disk"  # a checkpoint or an artifact could not be written
    PUSH_REFUSED = "push_refused"  # the hub does not let the job's token write there, or does not take what is pushed
    PUSH_FAILED = "push_failed"  # the hub could not be reached, or broke off; what it has by then it keeps
    ARTIFACT_STORE = "artifact_store"  # the artifact store did not take a file, or does not give one back whole
    TOO_LONG = "too_long"  # the job ran for as long as resources.max_seconds allows
    DEADLINE_PASSED = "deadline_passed"  # resources.deadline came before the job's end
    CERTIFICATE_FAILED = "certificate_failed"  # what an export wrote is not, when loaded again, what was trained
    EXPORT_EXISTS = "export_exists"  # there is something under the export's name already, and nothing says to replace it
    DIVERGED = "diverged"  # the loss, its gradient or the weights became NaN or infinite
    REWARD_API_NOT_ALLOWED = "reward_api_not_allowed"  # the operator of this worker does not list its host
    REWARD_API_SLOW = "reward_api_slow"  # it did not answer in time, as often as it was asked
    REWARD_API_DOWN = "reward_api_down"  # it cannot be reached, or says that it cannot answer now
    REWARD_API_REFUSES = "reward_api_refuses"  # it does not take what it is asked, or sends on to another place
    REWARD_API_WRONG = "reward_api_wrong"  # what it answers is not one finite score for each response
    WORKER_LOST = "worker_lost"  # the job lost its worker more often than max_lost allows
    KILLED = "killed"  # the training process was killed or crashed
    INTERNAL_ERROR = "internal_error"  # a fault of ours; the log has the traceback


# What may have passed when the job is tried again, a while later and up to resources.max_retries times. A loss of the worker has
# a count of its own, max_lost. Nothing else here: a bad row is as bad the second time.
RETRYABLE = frozenset(
    {
        Reason.OUT_OF_DISK,
        Reason.ARTIFACT_STORE,
        Reason.REWARD_API_SLOW,
        Reason.REWARD_API_DOWN,
        Reason.PUSH_FAILED,
    }
)
