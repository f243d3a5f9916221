"""INSERT ... ON CONFLICT DO UPDATE, which SQLite and PostgreSQL write alike and SQLAlchemy keeps in each dialect."""

from typing import Any

from sqlalchemy import inspect
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from service.store.tables import Base


def upsert(session: Session, table: type[Base], rows: list[dict[str, Any]]) -> None:
    """Writes rows by primary key: a later attempt that comes to the same point again overwrites it, whole."""
    if not rows:
        return
    dialect = postgresql if session.get_bind().dialect.name == "postgresql" else sqlite
    keys = [column.name for column in inspect(table).primary_key]
    statement = dialect.insert(table)
    # every column, so that one that the new row does not give is emptied instead of left as the old row had it
    changed = {column.name: statement.excluded[column.name] for column in inspect(table).columns if column.name not in keys}
    session.execute(statement.on_conflict_do_update(index_elements=keys, set_=changed), rows)
