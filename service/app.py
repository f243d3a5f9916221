"""The service: what it is made of. Read this first.

    POST /jobs ─ api/jobs.py ─ specs/read.py ─ library/check.py ─ store/jobs.py ─ dispatch.ring

An endpoint is one file in `api/` and one line here; an error is one line in `api/problems.py`.
"""

import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from importlib.metadata import version
from math import ceil

from anyio import to_thread
from fastapi import Depends, FastAPI
from starlette.types import Lifespan

from service import log
from service.api import (
    access,
    artifacts,
    audit,
    checkpoints,
    dashboard,
    dataset_rows,
    dataset_versions,
    datasets,
    events,
    generating,
    health,
    jobs,
    keys,
    logs,
    looking_closer,
    metrics,
    overview,
    owners,
    problems,
    prometheus,
    schema,
    sending,
    series,
    sessions,
    webhooks,
    workers,
)
from service.api.arriving import Arriving
from service.api.body_limit import BodyLimit
from service.api.client_address import ClientAddress
from service.api.cut_off import CutOff
from service.api.first_answer import Again, again
from service.api.following import Following
from service.api.lately import Lately
from service.api.null_characters import NullCharacters
from service.api.openai import files, fine_tuning, models, uploads
from service.api.rate_limit import RateLimit
from service.api.rates import Bucket, OwnRates, Rates
from service.api.refused import RefusedRequests
from service.api.rendered import Rendered
from service.api.request_id import RequestId
from service.api.shared_rates import SharedRates, open_redis
from service.api.shutdown import on_stop
from service.api.traced import Traced
from service.dispatch import Dispatch, Doorbell
from service.library.check import FoundWell
from service.settings import Settings
from service.storage.opening import open_storage
from service.store import jobs as jobs_store
from service.store.group_commit import GroupCommit
from service.store.session import Database
from service.tracing import OFF, Tracing, tracing
from service.webhooks.addresses import networks_of
from service.webhooks.delivering import Deliverer
from service.webhooks.sending import Sender

DESCRIPTION = """Fine-tunes language models on your own machines, and says in bits what every checkpoint learned.

Errors are problem documents (RFC 9457) with a `code` for programs and `errors` that point into the request."""

# Objects made, less those that went by themselves, before the collector looks for what did not: a request makes some hundreds.
GARBAGE_AFTER = 10_000

# What only the holder of a key may ask for: scopes.py says of which. Every request is held against them in this order, and those
# that come most often stand first.
KEYED = (
    metrics.router,
    series.router,
    jobs.router,
    events.router,
    checkpoints.router,
    artifacts.router,
    logs.router,
    workers.router,
    datasets.router,
    webhooks.router,
    looking_closer.router,
    prometheus.router,
    overview.router,
    generating.router,
    dataset_rows.router,
    dataset_versions.router,
    sending.router,
    keys.router,
    owners.router,
    audit.router,
    files.router,
    uploads.router,
    fine_tuning.router,
    models.router,
)


def create_app(
    settings: Settings,
    database: Database,
    dispatch: Dispatch,
    lifespan: Lifespan[FastAPI] | None = None,
    traces: Tracing = OFF,
) -> FastAPI:
    """The application over its collaborators, which stay the caller's to close."""
    app = FastAPI(
        lifespan=_living(settings, lifespan),
        title="Finebits",
        version=version("finebits"),
        description=DESCRIPTION,
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
        responses=problems.declared(422, 500, 503),
    )
    app.state.settings = settings
    app.state.database = database
    app.state.dispatch = dispatch
    app.state.rendered = Rendered()
    app.state.found_well = FoundWell()
    app.state.lately = Lately()
    app.state.arriving = Arriving(settings.artifacts_root)
    app.state.keyring = access.Keyring(database)
    requests, app.state.sign_ins = _rates(settings)
    app.state.following = Following(database)
    app.state.new_jobs = GroupCommit(database, jobs_store.create_all)
    app.state.refused = RefusedRequests(database)
    app.state.watching = health.watchers()
    app.state.exposition = prometheus.Exposition(database)
    app.state.deliverer = _deliverer(settings, database)
    app.state.storage = open_storage(settings.artifacts_root, settings.artifacts_url, settings.s3_endpoint)

    for resource in KEYED:
        # each on the application itself: a router within a router would match every request twice as often
        app.include_router(resource, dependencies=[Depends(access.let_in)], responses=problems.declared(401, 403, 429))
    app.include_router(health.router)
    app.include_router(sessions.router, responses=problems.declared(429))
    app.include_router(dashboard.router)

    # the last one added stands outermost: whatever is refused has an id
    app.add_middleware(NullCharacters)
    app.add_middleware(BodyLimit, most_bytes=settings.max_body_bytes, most_file_bytes=settings.max_file_bytes)
    app.add_middleware(RateLimit, rates=requests, keyring=app.state.keyring)
    app.add_middleware(CutOff)
    app.add_middleware(prometheus.Counted, exposition=app.state.exposition)
    if traces is not OFF:
        app.add_middleware(Traced, tracing=traces)
    app.add_middleware(RequestId)
    if settings.trusted_proxies:
        app.add_middleware(ClientAddress, proxies=settings.trusted_proxies)
    problems.install(app)
    app.add_exception_handler(Again, again)
    schema.install(app)
    return app


def _living(settings: Settings, lifespan: Lifespan[FastAPI] | None) -> Lifespan[FastAPI]:
    """The lifespan, with as many threads for endpoints as the settings say: the framework's own number is 40."""

    @asynccontextmanager
    async def living(app: FastAPI) -> AsyncIterator[None]:
        to_thread.current_default_thread_limiter().total_tokens = settings.api_threads
        async with lifespan(app) if lifespan else nullcontext():
            if app.state.deliverer is not None:
                app.state.deliverer.start()
            with on_stop(app.state.following.close):
                yield
            app.state.new_jobs.close()
            await to_thread.run_sync(app.state.refused.close)
            if app.state.deliverer is not None:
                app.state.deliverer.close()

    return living


def _rates(settings: Settings) -> tuple[Rates, Rates]:
    """Of requests, and of keys that open nothing."""
    requests = Bucket(settings.rate_limit, settings.rate_burst)
    sign_ins = Bucket(settings.failed_sign_ins_per_minute / 60, ceil(settings.failed_sign_ins_per_minute))
    if not settings.rate_limit_shared:
        return OwnRates(requests), OwnRates(sign_ins)
    redis = open_redis(settings.broker_url)
    return SharedRates(redis, "requests", requests), SharedRates(redis, "sign-ins", sign_ins)


def _deliverer(settings: Settings, database: Database) -> Deliverer | None:
    """None where no secrets are kept: there are no webhooks then."""
    if settings.secret_key is None:
        return None
    return Deliverer(database, settings.secret_key, Sender(networks_of(settings.webhook_networks)).post)


def from_environment() -> FastAPI:
    """For `uvicorn --factory service.app:from_environment`."""
    settings = Settings()
    log.set_up(settings.log_format)
    traces = tracing("finebits-api", settings.traces_url)
    database, doorbell = Database(settings.database_url), Doorbell(settings.broker_url)

    @asynccontextmanager
    async def closing(app: FastAPI) -> AsyncIterator[None]:
        _settle()
        yield
        doorbell.close()
        database.close()
        traces.close()

    return create_app(settings, database, doorbell, closing, traces)


def _settle() -> None:
    """What has been loaded stays: the garbage collector need not walk through all of it again and again while requests wait."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE_AFTER, 10, 10)
