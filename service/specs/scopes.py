"""What a key is for."""

from enum import StrEnum


class Scope(StrEnum):
    """One that is given says nothing of the others, but that `admin` may do everything."""

    READ = "read"  # look at what is the owner's
    SUBMIT = "submit"  # make jobs and data sets, steer them, delete them
    ADMIN = "admin"  # everything, of all owners: keys, quotas, workers, the audit log
