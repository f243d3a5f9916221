"""The least that a FastAPI application over a database can be: what `api_cost.py` compares the service with.

One row is inserted and its id answered, or bytes are answered that one query fetches. Nothing is validated, checked or rung.
"""

import os
import secrets
from typing import Any

from fastapi import FastAPI, Request, Response
from sqlalchemy import JSON, Engine, LargeBinary, String, create_engine, event
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column


class Base(DeclarativeBase):
    pass


class Row(Base):
    __tablename__ = "bare_rows"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    document: Mapped[dict[str, Any]] = mapped_column(JSON)


class Bytes(Base):
    __tablename__ = "bare_bytes"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    body: Mapped[bytes] = mapped_column(LargeBinary)


def from_environment() -> FastAPI:
    engine = _engine(os.environ["FINEBITS_DATABASE_URL"])
    Base.metadata.create_all(engine)
    app = FastAPI()

    @app.post("/rows", status_code=201)
    def insert(document: dict[str, Any]) -> dict[str, str]:
        row = Row(id=secrets.token_hex(12), document=document)
        with Session(engine, expire_on_commit=False) as session, session.begin():
            session.add(row)
        return {"id": row.id}

    @app.put("/bytes", status_code=204)
    async def put(request: Request) -> None:
        body = await request.body()
        with Session(engine) as session, session.begin():
            session.merge(Bytes(id="body", body=body))

    @app.get("/bytes")
    def get() -> Response:
        with Session(engine) as session:
            found = session.get(Bytes, "body")
            return Response(found.body if found else b"", media_type="application/json")

    return app


def _engine(url: str) -> Engine:
    if not url.startswith("sqlite"):
        return create_engine(url, pool_size=10)
    engine = create_engine(url, pool_size=10, max_overflow=30, connect_args={"check_same_thread": False, "timeout": 30})

    @event.listens_for(engine, "connect")
    def durable(connection: Any, record: Any) -> None:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")

    return engine
