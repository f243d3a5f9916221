"""finebits serve"""

import os

import typer

from service.cli.serving import read_settings


def serve(as_json: bool = typer.Option(False, "--json", help="Write the log as JSON, a line each.")) -> None:
    """Run the API alone, where the database, the broker and the workers are elsewhere."""
    import uvicorn  # here, since every other command starts faster without it

    settings = read_settings()
    if as_json:
        os.environ["FINEBITS_LOG_FORMAT"] = "json"  # which the application reads
    uvicorn.run(
        "service.app:from_environment",
        factory=True,
        proxy_headers=False,  # whom to believe is FINEBITS_TRUSTED_PROXIES
        host=settings.host,
        port=settings.port,
        timeout_graceful_shutdown=settings.stop_seconds,
    )
