"""What the library cannot hand out.

LibraryError           a model or a data set is not there, or cannot be used; the message is for the client who named it
└── (one class: the API renders each as a refusal of the argument that named the thing)
"""


class LibraryError(Exception):
    """Names what is missing or broken, never a path on this host. `argument` is what must change, where that is not the name."""

    def __init__(self, sentence: str, argument: str | None = None):
        self.argument = argument
        super().__init__(sentence)
