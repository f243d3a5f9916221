"""How long a job waits before it is tried again."""

import random

RETRY_SECONDS = 30.0  # of the first wait
MOST_DOUBLINGS = 6


def pause_before(earlier: int, retry_seconds: float) -> float:
    """Seconds to wait when so many retries were before: twice as long each time, up to half an hour and a half with the default.

    Drawn within a half around that, so that jobs that failed of one thing do not all come back at once.
    """
    return retry_seconds * 2.0 ** min(earlier, MOST_DOUBLINGS) * random.uniform(0.5, 1.5)
