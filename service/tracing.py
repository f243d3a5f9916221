"""Traces from a request to the training process, where the operator has a collector (FINEBITS_TRACES_URL, OTLP over HTTP).

A trace is handed on as W3C's traceparent: by the client's header, by the job's row, by the attempt's environment. Without a
collector nothing of OpenTelemetry is loaded.
"""

import threading
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from importlib.metadata import version
from typing import Any, Protocol

# How long spans may take to be sent when a process ends.
FLUSH_SECONDS = 3.0


class Span:
    """What is going on. `trace` is its traceparent, for whoever goes on with it; None where nothing is traced."""

    def __init__(self, trace: str | None = None, span: Any = None):
        self.trace = trace
        self._span = span

    def note(self, attributes: Mapping[str, Any]) -> None:
        if self._span is not None:
            self._span.set_attributes({name: value for name, value in attributes.items() if value is not None})


class Tracing(Protocol):
    """A span goes on with `parent`, a traceparent; without one with the span that it stands in."""

    def span(self, name: str, parent: str | None = None, **attributes: Any) -> AbstractContextManager[Span]: ...

    def close(self) -> None: ...


class _Off:
    """Traces nothing."""

    @contextmanager
    def span(self, name: str, parent: str | None = None, **attributes: Any) -> Iterator[Span]:
        yield Span()

    def close(self) -> None:
        return


class OpenTelemetry:
    """Spans of one process, sent by a thread of the library's. `exporter` is one of its span exporters."""

    def __init__(self, service: str, exporter: Any):
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        resource = Resource.create({"service.name": service, "service.version": version("finebits")})
        # ours alone, not the process's: what else is traced there is not ours to decide
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=1000))
        self._tracer = self._provider.get_tracer("finebits")
        self._propagator = TraceContextTextMapPropagator()

    @contextmanager
    def span(self, name: str, parent: str | None = None, **attributes: Any) -> Iterator[Span]:
        before = self._propagator.extract({"traceparent": parent}) if parent else None
        with self._tracer.start_as_current_span(name, context=before) as begun:
            carrier: dict[str, str] = {}
            self._propagator.inject(carrier)
            span = Span(carrier.get("traceparent"), begun)
            span.note(attributes)
            yield span

    def close(self) -> None:
        """Sends what is left, and waits no longer than FLUSH_SECONDS for a collector that is away."""
        thread = threading.Thread(target=self._provider.shutdown, name="traces", daemon=True)
        thread.start()
        thread.join(FLUSH_SECONDS)


OFF: Tracing = _Off()


def tracing(service: str, url: str) -> Tracing:
    """Of this process, which is called so; nothing where there is no collector."""
    if not url:
        return OFF
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return OpenTelemetry(service, OTLPSpanExporter(endpoint=url, timeout=2))
