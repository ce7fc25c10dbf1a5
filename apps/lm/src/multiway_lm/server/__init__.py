"""The server: completions and chat in the OpenAI API's form, for any client of it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from multiway_core.errors import MultiwayError
from starlette.concurrency import run_in_threadpool

from multiway_lm.sampling import CHAT_TEMPERATURE
from multiway_lm.server import errors
from multiway_lm.server.answers import Answer, Style, usage
from multiway_lm.server.engine import MAX_CONCURRENCY, MAX_QUEUE, Engine, Job
from multiway_lm.server.errors import ApiError
from multiway_lm.server.limits import MOST_BYTES, Gate
from multiway_lm.server.schema import ChatRequest, CompletionRequest

if TYPE_CHECKING:
    from multiway_text.language_model import LanguageModel

MOST_TOKENS = 4096
_LOOK_SECONDS = 0.25  # how often it is asked whether a client is still there while its answer waits


def build_server(
    model: LanguageModel,
    *,
    name: str | None = None,
    max_concurrency: int = MAX_CONCURRENCY,
    max_queue: int = MAX_QUEUE,
    max_tokens: int = MOST_TOKENS,
    max_bytes: int = MOST_BYTES,
    api_key: str | None = None,
) -> FastAPI:
    """The ASGI application.

    Args:
        model: serves all requests; ``name`` is what clients call it.
        max_concurrency, max_queue: requests that run side by side, and that wait behind them; one more gets 429.
        max_tokens: largest ``max_tokens`` of a request.
        max_bytes: largest body of a request.
        api_key: if given, requests under /v1/ need it.
    """
    engine = Engine(model, max_concurrency=max_concurrency, max_queue=max_queue)
    served = name or model.name

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        engine.start()
        yield
        await run_in_threadpool(engine.stop)

    app = FastAPI(
        title="multiway-lm", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url="/openapi.json"
    )
    app.add_middleware(Gate, max_bytes=max_bytes, api_key=api_key)
    errors.install(app)
    app.state.engine = engine

    def check(asked: str, tokens: int | None) -> None:
        if asked != served:
            message = f"there is no model {asked!r}; this server has {served!r}"
            raise ApiError(404, message, param="model", code="model_not_found")
        if tokens is not None and tokens > max_tokens:
            raise ApiError(
                400, f"max_tokens {tokens}: this server gives at most {max_tokens}", param="max_tokens"
            )

    @app.get("/health")
    async def health() -> dict[str, Any]:
        return {"status": "ok", "active": len(engine.active), "waiting": len(engine.waiting)}

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        entry = {"id": served, "object": "model", "created": 0, "owned_by": "multiway"}
        return {"object": "list", "data": [{**entry, "max_model_len": model.max_positions}]}

    @app.post("/v1/completions")
    async def completions(body: CompletionRequest, request: Request) -> Response:
        check(body.model, body.max_tokens)
        body.refuse_unknown()
        options = body.sampling(model.recommended_sampling, temperature=1.0, alternatives=body.logprobs or 0)
        prompts = [await run_in_threadpool(model.prompt_ids, prompt) for prompt in body.prompts()]
        style = Style(chat=False, model=served, logprobs=body.logprobs is not None)
        return await _respond(engine, request, body, style, prompts, options)

    @app.post("/v1/chat/completions")
    async def chat(body: ChatRequest, request: Request) -> Response:
        if body.max_completion_tokens is not None:
            body.max_tokens = body.max_completion_tokens
        check(body.model, body.max_tokens)
        body.refuse_unknown()
        if body.top_logprobs and not body.logprobs:
            raise ApiError(400, "top_logprobs needs logprobs: true", param="top_logprobs")
        options = body.sampling(
            model.recommended_sampling, temperature=CHAT_TEMPERATURE, alternatives=body.top_logprobs
        )
        messages = [message.plain() for message in body.messages]
        prompts = [await run_in_threadpool(model.prompt_ids, messages)]
        style = Style(chat=True, model=served, logprobs=body.logprobs)
        return await _respond(engine, request, body, style, prompts, options)

    return app


async def _respond(
    engine: Engine, request: Request, body: Any, style: Style, prompts: list[list[int]], options: Any
) -> Response:
    jobs: list[Job] = []
    try:
        for prompt in prompts:
            jobs.append(engine.submit(prompt, options, body.n))
    except BaseException:
        for job in jobs:
            job.cancel()
        raise
    read = sum(map(len, prompts))
    if not body.stream:
        answers = await _collect(request, jobs, body.n)
        written = sum(len(answer.tokens) for answer in answers)
        return JSONResponse(style.whole(answers, usage(read, written)))
    told = body.stream_options is not None and body.stream_options.include_usage
    return StreamingResponse(
        _events(request, jobs, body.n, style, read, told),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


async def _collect(request: Request, jobs: Sequence[Job], each: int) -> list[Answer]:
    """Whole answers; the work ends when the client leaves."""
    answers = [Answer(index) for index in range(len(jobs) * each)]

    async def take(first: int, job: Job) -> None:
        async for pieces in job.pieces():
            for piece in pieces:
                answer = answers[first + piece.row]
                answer.text += piece.text
                answer.finish = piece.finish or answer.finish
                if piece.token is not None:
                    answer.tokens.append(piece.token)

    work = asyncio.ensure_future(asyncio.gather(*(take(place * each, job) for place, job in enumerate(jobs))))
    try:
        while not (await asyncio.wait([work], timeout=_LOOK_SECONDS))[0]:
            if await request.is_disconnected():
                raise ApiError(499, "the client left")
        await work
    finally:
        work.cancel()
        for job in jobs:
            job.cancel()
    return answers


async def _events(
    request: Request, jobs: Sequence[Job], each: int, style: Style, read: int, told: bool
) -> AsyncIterator[bytes]:
    """Server-sent events. An error behind the first is an event too: the status is long sent."""
    answers = [Answer(index) for index in range(len(jobs) * each)]
    written = 0
    looking = asyncio.ensure_future(_leaves(request))
    try:
        opening = style.first(answers)
        if opening is not None:
            yield _event(opening)
        async for first, pieces in _merged(jobs, each, looking):
            for piece in pieces:
                answer = answers[first + piece.row]
                if piece.token is not None:
                    answer.tokens.append(piece.token)
                    written += 1
                if piece.text or piece.finish:
                    # The tokens of a text that was held back come with it.
                    chunk = style.chunk(
                        answer.index, piece.text, answer.tokens, len(answer.text), piece.finish or None
                    )
                    answer.text += piece.text
                    answer.tokens = []
                    yield _event(chunk)
        if told:
            yield _event(style.last(usage(read, written)))
        yield b"data: [DONE]\n\n"
    except ApiError as error:
        yield _event(error.body)
    except MultiwayError as error:
        yield _event(errors.error_body(str(error)))
    finally:
        looking.cancel()
        for job in jobs:
            job.cancel()


async def _merged(
    jobs: Sequence[Job], each: int, looking: asyncio.Future[None]
) -> AsyncIterator[tuple[int, list[Any]]]:
    """(index of the job's first answer, pieces) of all jobs, as they come, until the client leaves."""
    streams = {place: job.pieces() for place, job in enumerate(jobs)}
    waiting: dict[asyncio.Future[Any], int] = {
        asyncio.ensure_future(anext(stream)): place for place, stream in streams.items()
    }
    try:
        while waiting:
            watched: set[asyncio.Future[Any]] = {*waiting, looking}
            done, _ = await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
            if looking in done:
                return
            for future in done:
                place = waiting.pop(future)
                try:
                    pieces = future.result()
                except StopAsyncIteration:
                    continue
                yield place * each, pieces
                waiting[asyncio.ensure_future(anext(streams[place]))] = place
    finally:
        for future in waiting:
            future.cancel()


async def _leaves(request: Request) -> None:
    """Returns when the client is gone."""
    while not await request.is_disconnected():
        await asyncio.sleep(_LOOK_SECONDS)


def _event(data: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(data, ensure_ascii=False).encode("utf-8", "replace") + b"\n\n"
