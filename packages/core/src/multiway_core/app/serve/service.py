"""One FastAPI application for the services of one or more apps."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, FastAPI, File, Form, Request, UploadFile
from fastapi.responses import JSONResponse, Response, StreamingResponse
from fastapi_offline import FastAPIOffline
from pydantic import create_model

from multiway_core.app.model import load_pipeline
from multiway_core.app.options import ModelOptions
from multiway_core.app.registry import App
from multiway_core.app.serve import errors
from multiway_core.app.serve.errors import ApiError
from multiway_core.app.serve.gate import MAX_BYTES, Gate
from multiway_core.app.serve.held_model import HeldModel
from multiway_core.app.serve.hosts import HostGate
from multiway_core.app.serve.metrics import Metrics
from multiway_core.app.serve.operation import Content, Operation, Service, Streamed, Upload, is_file, items_of
from multiway_core.app.serve.worker import MAX_QUEUE, Worker, unless_gone

IDLE_SECONDS = 900.0


@dataclass(frozen=True)
class Limits:
    """What requests may ask of a server.

    Attributes:
        max_bytes: largest body.
        max_queue: requests that wait for one model behind the one that runs.
        idle_seconds: a model without requests for so long is dropped; None keeps it.
        api_key: if given, requests under /v1/ need it.
        hosts: names that the server answers to.
    """

    max_bytes: int = MAX_BYTES
    max_queue: int = MAX_QUEUE
    idle_seconds: float | None = IDLE_SECONDS
    api_key: str | None = None
    hosts: tuple[str, ...] = ("*",)


@dataclass
class Endpoint:
    """A service behind HTTP.

    Attributes:
        id: what clients call the model.
        model: holds what the operations get.
        preload: load the model when the server starts.
    """

    id: str
    service: Service
    model: HeldModel
    worker: Worker
    preload: bool = False
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def pending(self) -> int:
        """Requests that run or wait."""
        count, model = self.worker.pending, self.model.loaded
        return count if model is None or self.service.pending is None else count + self.service.pending(model)

    @property
    def names(self) -> tuple[str, ...]:
        """What requests may call it."""
        return self.id, self.id.removeprefix("bundled:")

    def check(self, asked: str) -> None:
        """Raises ApiError (404): the request is for another model."""
        if asked not in self.names:
            message = f"there is no model {asked!r}; this server has {self.id!r}"
            raise ApiError(404, message, param="model", code="model_not_found")


def endpoint_of(app: App, options: ModelOptions | None = None, limits: Limits | None = None) -> Endpoint:
    """The endpoint of an app's service. Raises what importing it raises."""
    service, options, limits = app.load("serve"), options or ModelOptions(), limits or Limits()

    def load() -> Any:
        pipeline = load_pipeline(app, options)
        return pipeline if service.prepare is None else service.prepare(pipeline)

    return endpoint(options.model or app.model, service, load, limits)


def endpoint(id: str, service: Service, load: Callable[[], Any], limits: Limits) -> Endpoint:
    """A service with its model, which ``load`` makes."""

    def busy(model: Any) -> bool:
        return worker.pending > 0 or (service.pending is not None and service.pending(model) > 0)

    model = HeldModel(load, close=service.close, busy=busy, idle_seconds=limits.idle_seconds)
    worker = Worker(model, max_queue=limits.max_queue)
    return Endpoint(id, service, model, worker)


def build_server(endpoints: Sequence[Endpoint], limits: Limits | None = None, *, title: str) -> FastAPI:
    """The ASGI application: every endpoint's routes, /v1/models, /health, /metrics, /docs and /openapi.json.

    An operation that is not among the endpoints is answered by 404 as any unknown path.
    """
    limits = limits or Limits()
    metrics = Metrics(endpoints)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        for each in endpoints:
            if each.preload:
                await each.model.get()
        yield
        for each in endpoints:
            each.worker.close()
            await each.model.drop()

    # As FastAPI, but the pages of the documentation ask no other host for their scripts.
    server = FastAPIOffline(title=title, lifespan=lifespan, redoc_url=None)
    server.add_middleware(Gate, max_bytes=limits.max_bytes, api_key=limits.api_key)
    server.add_middleware(metrics.Middleware, metrics=metrics)
    server.add_middleware(HostGate, hosts=limits.hosts)
    errors.install(server, title)

    @server.get("/health", tags=["server"])
    async def health() -> dict[str, Any]:
        """Whether the server runs, and which models are in memory."""
        models = [
            {"id": each.id, "loaded": each.model.loaded is not None, "pending": each.pending}
            for each in endpoints
        ]
        return {"status": "ok", "models": models}

    @server.get("/metrics", tags=["server"])
    async def prometheus() -> Response:
        """Counters in the text format of Prometheus."""
        return Response(metrics.text(), media_type=metrics.media_type)

    @server.get("/v1/models", tags=["server"])
    async def models() -> dict[str, Any]:
        """The models that can be asked for."""
        return {"object": "list", "data": [_described(each) for each in endpoints]}

    @server.get("/v1/models/{name:path}", tags=["server"])
    async def model(name: str) -> dict[str, Any]:
        """One of them."""
        found = next((each for each in endpoints if name in each.names), None)
        if found is None:
            message = f"there is no model {name!r} here; /v1/models lists them"
            raise ApiError(404, message, param="model", code="model_not_found")
        return _described(found)

    for each in endpoints:
        router = APIRouter()
        for operation in each.service.operations:
            _add_route(router, operation, each)
        if each.service.routes is not None:
            each.service.routes(router, each)
        server.include_router(router)
    if not any(getattr(route, "path", "") == "/v1/embeddings" for route in server.routes):

        @server.post("/v1/embeddings", tags=["server"], include_in_schema=False)
        async def embeddings() -> Response:
            raise ApiError(404, "no installed app gives embeddings", code="not_available")

    return server


def _described(served: Endpoint) -> dict[str, Any]:
    return {"id": served.id, "object": "model", "created": 0, "owned_by": "multiway", **served.details}


def _add_route(router: APIRouter, operation: Operation, served: Endpoint) -> None:
    """``POST operation.path``: a form where the operation takes files, JSON otherwise."""
    parameters = operation.parameters()
    files = operation.files()

    async def answer(request: Request, values: dict[str, Any]) -> Response:
        if values.get("model"):
            served.check(values["model"])
        job = partial(items_of, operation, arguments=values)
        return await respond(request, served.worker.stream(lambda model: job(model)))

    if files:

        async def handle(**values: Any) -> Response:
            request = values.pop("request")
            for name in files:
                upload = values[name]
                if upload is not None:
                    values[name] = Upload(upload.filename or "file", await upload.read())
            return await answer(request, values)

        fields = [_form_field(item) for item in parameters]
    else:
        known = {
            item.name: (item.annotation, ... if item.default is inspect.Parameter.empty else item.default)
            for item in parameters
        }
        request_body = create_model(f"{operation.name}_request", **known)  # type: ignore[call-overload]

        async def handle(**values: Any) -> Response:
            body = values["body"]
            return await answer(values["request"], {name: getattr(body, name) for name in known})

        fields = [_keyword("body", request_body)]
    handle.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [_keyword("request", Request), *fields], return_annotation=Response
    )
    router.add_api_route(
        operation.path,
        handle,
        methods=["POST"],
        name=operation.name,
        summary=operation.name.replace("_", " "),
        description=operation.summary,
        tags=[operation.path.split("/")[2]],
        responses={200: _documented(operation)},
    )


def _documented(operation: Operation) -> dict[str, Any]:
    """What OpenAPI says about the result; FastAPI makes the JSON schema of ``model``."""
    binary = {"schema": {"type": "string", "format": "binary"}}
    described: dict[str, Any] = {"content": dict.fromkeys(operation.media_types, binary)}
    if operation.result is not None:
        described["model"] = operation.result
    if operation.schema is not None:
        named = {"properties": {"schema": {"const": operation.schema}}, "required": ["schema"]}
        described["content"]["application/json"] = {"schema": named}
    return described


def _keyword(name: str, annotation: Any, default: Any = inspect.Parameter.empty) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default)


def _form_field(item: inspect.Parameter) -> inspect.Parameter:
    if not is_file(item.annotation):
        return _keyword(item.name, Annotated[item.annotation, Form()], item.default)
    if item.default is inspect.Parameter.empty:
        return _keyword(item.name, Annotated[UploadFile, File()])
    return _keyword(item.name, Annotated[UploadFile | None, File()], None)


async def respond(request: Request, items: AsyncIterator[Any]) -> Response:
    """The response for what an operation gives; its work ends when the client leaves."""
    try:
        first = await unless_gone(request, _first(items))
        if isinstance(first, Streamed):
            return StreamingResponse(
                _rest(items),
                media_type=first.media_type,
                headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
            )
        last = await unless_gone(request, _last(first, items))
    except BaseException:
        await _close(items)
        raise
    if isinstance(last, Content):
        return Response(last.data, media_type=last.media_type)
    return JSONResponse(last)


async def _first(items: AsyncIterator[Any]) -> Any:
    return await anext(items)


async def _last(item: Any, items: AsyncIterator[Any]) -> Any:
    async for later in items:
        item = later
    return item


async def _rest(items: AsyncIterator[Any]) -> AsyncIterator[bytes]:
    try:
        async for item in items:
            yield item
    finally:
        await _close(items)


async def _close(items: Any) -> None:
    await items.aclose()
