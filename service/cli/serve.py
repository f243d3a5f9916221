"""finebits serve"""

from service.cli.serving import read_settings


def serve() -> None:
    """Run the API alone, where the database, the broker and the workers are elsewhere."""
    import uvicorn  # here, since every other command starts faster without it

    settings = read_settings()
    uvicorn.run(
        "service.app:from_environment",
        factory=True,
        proxy_headers=False,  # whom to believe is FINEBITS_TRUSTED_PROXIES
        host=settings.host,
        port=settings.port,
        timeout_graceful_shutdown=settings.stop_seconds,
    )
