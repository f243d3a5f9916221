"""What a job calls a file that was uploaded: its id, wherever a data set's name may stand."""

import re

FILE_ID = r"file-[0-9a-f]{24}"
_WHOLE = re.compile(FILE_ID)


def is_file(name: str) -> bool:
    return _WHOLE.fullmatch(name) is not None
