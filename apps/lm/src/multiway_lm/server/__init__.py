"""The server: completions and chat in the OpenAI API's form, for any client of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from multiway_core.app.serve.errors import ApiError, error_body
from multiway_core.app.serve.operation import Operation, Service
from multiway_core.app.serve.service import Endpoint, Limits, endpoint
from multiway_core.app.serve.service import build_server as build
from multiway_core.app.serve.worker import unless_gone, until_gone
from multiway_core.errors import MultiwayError
from starlette.concurrency import run_in_threadpool

from multiway_lm.sampling import CHAT_TEMPERATURE
from multiway_lm.server.answers import Answer, Style, usage
from multiway_lm.server.engine import MAX_CONCURRENCY, Engine, Job
from multiway_lm.server.schema import ChatCompletion, ChatRequest, Completion, CompletionRequest

if TYPE_CHECKING:
    from multiway_text.language_model import LanguageModel

MAX_TOKENS = 4096


def add_routes(router: APIRouter, served: Endpoint, *, max_tokens: int = MAX_TOKENS) -> None:
    """The two routes, for requests of at most ``max_tokens`` each."""

    def check(asked: str, tokens: int | None) -> None:
        served.check(asked)
        if tokens is not None and tokens > max_tokens:
            raise ApiError(
                400, f"max_tokens {tokens}: this server gives at most {max_tokens}", param="max_tokens"
            )

    @router.post("/v1/completions", tags=["completions"], responses={200: {"model": Completion}})
    async def completions(body: CompletionRequest, request: Request) -> Response:
        """Continue a text."""
        check(body.model, body.max_tokens)
        body.refuse_unknown()
        engine: Engine = await served.model.get()
        model = engine.model
        options = body.sampling(model.recommended_sampling, temperature=1.0, alternatives=body.logprobs or 0)
        prompts = [await run_in_threadpool(model.prompt_ids, prompt) for prompt in body.prompts()]
        style = Style(chat=False, model=served.id, logprobs=body.logprobs is not None)
        return await _respond(engine, request, body, style, prompts, options)

    @router.post("/v1/chat/completions", tags=["chat"], responses={200: {"model": ChatCompletion}})
    async def chat(body: ChatRequest, request: Request) -> Response:
        """Answer in a conversation."""
        if body.max_completion_tokens is not None:
            body.max_tokens = body.max_completion_tokens
        check(body.model, body.max_tokens)
        body.refuse_unknown()
        if body.top_logprobs and not body.logprobs:
            raise ApiError(400, "top_logprobs needs logprobs: true", param="top_logprobs")
        engine: Engine = await served.model.get()
        model = engine.model
        options = body.sampling(
            model.recommended_sampling, temperature=CHAT_TEMPERATURE, alternatives=body.top_logprobs
        )
        messages = [message.plain() for message in body.messages]
        prompts = [await run_in_threadpool(model.prompt_ids, messages)]
        style = Style(chat=True, model=served.id, logprobs=body.logprobs)
        return await _respond(engine, request, body, style, prompts, options)


def language_model(
    engine: Engine, prompt: str, system: str | None = None, max_tokens: int = 256, chat: bool = True
) -> dict[str, Any]:
    """Answer a message with a small local language model, or continue a text when chat is false."""
    from multiway_text.sampling import SamplingOptions

    message = {"role": "user", "content": prompt}
    asked: Any = [*([{"role": "system", "content": system}] if system else []), message] if chat else prompt
    answer = engine.model.generate(asked, SamplingOptions(max_tokens=min(max_tokens, MAX_TOKENS)))[0]
    return {"text": answer.text}


def started_engine(model: LanguageModel) -> Engine:
    """An engine at work. Called where no event loop need run."""
    engine = Engine(model)
    engine.start()
    return engine


SERVICE = Service(
    tools=(Operation("", language_model),),
    routes=add_routes,
    prepare=started_engine,
    close=Engine.stop,
    pending=Engine.pending,
)


def build_server(
    load: Callable[[], LanguageModel],
    name: str,
    limits: Limits,
    *,
    max_concurrency: int = MAX_CONCURRENCY,
    max_tokens: int = MAX_TOKENS,
) -> FastAPI:
    """The ASGI application for one model, loaded when the server starts.

    Args:
        load: makes the model, again after it was dropped for idleness.
        name: what clients call it.
        limits: of requests; those of ``max_queue`` wait behind the running ones, one more gets 429.
        max_concurrency: requests that run side by side.
        max_tokens: largest ``max_tokens`` of a request.
    """

    def start() -> Engine:
        model = load()
        served.details["max_model_len"] = model.max_positions
        engine = Engine(model, max_concurrency=max_concurrency, max_queue=limits.max_queue)
        engine.start()
        return engine

    service = replace(SERVICE, routes=partial(add_routes, max_tokens=max_tokens))
    served = endpoint(name, service, start, limits)
    served.preload = True
    server = build([served], limits, title="multiway-lm")
    server.state.served = served
    return server


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

    work = asyncio.gather(*(take(place * each, job) for place, job in enumerate(jobs)))
    try:
        await unless_gone(request, work)
    finally:
        for job in jobs:
            job.cancel()
    return answers


async def _events(
    request: Request, jobs: Sequence[Job], each: int, style: Style, read: int, told: bool
) -> AsyncIterator[bytes]:
    """Server-sent events. An error behind the first is an event too: the status is long sent."""
    answers = [Answer(index) for index in range(len(jobs) * each)]
    written = 0
    looking = asyncio.ensure_future(until_gone(request))
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
        yield _event(error_body(str(error)))
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


def _event(data: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(data, ensure_ascii=False).encode("utf-8", "replace") + b"\n\n"
