"""The version of the language of jobs. A job records the one that it was written in; a worker claims only what it can read."""

# Raised by one when a worker of the version before would misread a job: a new group, an argument whose meaning changes.
# A new argument that older workers would refuse to load needs it too, since groups are closed to unknown keys.
# tests/specs/test_version.py has each version's fingerprint, and fails where one changes.
SPEC_VERSION = 1

# What this code reads of stored jobs. Older versions stay here for as long as their jobs may wait.
READABLE = frozenset({1})
