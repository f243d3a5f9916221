"""What can go wrong with the artifact store.

StorageError
├── Unusable    the settings name no store that can be used; said at the start
├── Missing     the store has no such file
├── Damaged     the file is there, and its bytes are not those that were put
└── Away        the store does not answer, or refuses; later it may not
"""


class StorageError(Exception):
    """The message is for people and holds no secret."""


class Unusable(StorageError):
    """The settings name no store that can be used."""


class Missing(StorageError):
    """The store has no such file."""


class Damaged(StorageError):
    """The file's bytes are not those that were put."""


class Away(StorageError):
    """The store does not answer, or refuses."""
