"""What no path and no query may hold: a null character, which no database column takes."""

from fastapi import Request

from service.api.errors import BadParameter


async def without_nulls(request: Request) -> None:
    """Raises BadParameter."""
    if "\0" in request.url.path or any("\0" in value for value in request.path_params.values()):
        raise BadParameter("/path", "An address may not hold a null character.")
    for name, value in request.query_params.multi_items():
        if "\0" in value:
            raise BadParameter(f"/query/{name}", "A query may not hold a null character.")
