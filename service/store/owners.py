"""Whose things are. An owner is a name: keys have it, and with it whatever is made by them."""

import re
from typing import Any

from sqlalchemy import ColumnElement, true

# No owner has this name. Whoever may see everything asks for what is everybody's.
EVERYBODY = "*"

# A folder is called so, too.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}[A-Za-z0-9]|[A-Za-z0-9]")


def belongs(column: Any, owner: str) -> ColumnElement[bool]:
    """Whether a row is the owner's; every row is everybody's."""
    if owner == EVERYBODY:
        return true()
    is_its: ColumnElement[bool] = column == owner
    return is_its
