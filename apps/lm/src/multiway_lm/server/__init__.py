"""The server: completions and chat in the OpenAI API's form, for any client of it."""

from __future__ import annotations

import asyncio
import base64
import json
import struct
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
from multiway_lm.server.answers import Answer, PromptToken, Style, usage
from multiway_lm.server.engine import MAX_CONCURRENCY, Engine, Job
from multiway_lm.server.schema import (
    ChatCompletion,
    ChatRequest,
    Completion,
    CompletionRequest,
    EmbeddingRequest,
)

if TYPE_CHECKING:
    from multiway_text.language_model import LanguageModel
    from multiway_text.scoring import TokenScores

MAX_TOKENS = 4096


def add_routes(
    router: APIRouter, served: Endpoint, *, max_tokens: int = MAX_TOKENS, embeddings: bool = False
) -> None:
    """The routes, for requests of at most ``max_tokens`` each.

    ``embeddings``: also ``/v1/embeddings``, which beside other apps is that of `multiway-encoder`.
    """

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
        asked = body.prompts()
        prompts = [await run_in_threadpool(model.prompt_ids, prompt) for prompt in asked]
        style = Style(chat=False, model=served.id, logprobs=body.logprobs is not None)
        beginnings = [Answer(index) for index in range(len(prompts) * body.n)]
        if body.max_tokens == 0 and (body.stream or not body.echo):
            raise ApiError(400, "max_tokens 0 needs echo: true, and is not streamed", param="max_tokens")
        if body.echo:
            for prompt in prompts:
                model.room(prompt, body.max_tokens or None)
            beginnings = await run_in_threadpool(
                echoed_answers, model, list(zip(asked, prompts, strict=True)), body.n, body.logprobs
            )
        if body.max_tokens == 0:
            for answer in beginnings:
                answer.finish = "length"
            return JSONResponse(style.whole(beginnings, usage(sum(map(len, prompts)), 0)))
        return await _respond(engine, request, body, style, prompts, options, beginnings)

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
        tools = body.offered()
        described = [tool.model_dump(exclude_none=True) for tool in tools]
        prompts = [await run_in_threadpool(model.prompt_ids, messages, tools=described)]
        names = frozenset(tool.function.name for tool in tools)
        style = Style(chat=True, model=served.id, logprobs=body.logprobs, tools=names)
        return await _respond(
            engine, request, body, style, prompts, options, [Answer(index) for index in range(body.n)]
        )

    if not embeddings:
        return

    @router.post("/v1/embeddings", tags=["embeddings"])
    async def embed(body: EmbeddingRequest) -> dict[str, Any]:
        """The mean of a text's last hidden states, of length 1."""
        served.check(body.model)
        inputs = body.inputs()
        engine: Engine = await served.model.get()
        rows = [await run_in_threadpool(engine.model.prompt_ids, text) for text in inputs]
        vectors = await run_in_threadpool(engine.model.embed, rows)
        data = [
            {"object": "embedding", "index": place, "embedding": _form(vector, body.encoding_format)}
            for place, vector in enumerate(vectors)
        ]
        tokens = sum(map(len, rows))
        counted = {"prompt_tokens": tokens, "total_tokens": tokens}
        return {"object": "list", "data": data, "model": served.id, "usage": counted}


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

    service = replace(SERVICE, routes=partial(add_routes, max_tokens=max_tokens, embeddings=True))
    served = endpoint(name, service, start, limits)
    served.preload = True
    server = build([served], limits, title="multiway-lm")
    server.state.served = served
    return server


def echoed_answers(
    model: LanguageModel,
    prompts: Sequence[tuple[str | list[int], list[int]]],
    each: int,
    alternatives: int | None,
) -> list[Answer]:
    """Answers that begin with their prompts, each given as it was sent and as ids; ``each``: answers a prompt.

    ``alternatives``: likeliest tokens of each place; None: no probabilities are asked for.
    """
    scores: list[TokenScores | None] = [None] * len(prompts)
    if alternatives is not None:
        rows = [(ids[:1], ids[1:]) for _, ids in prompts]
        scores = [*model.log_likelihoods(rows, alternatives=alternatives)]
    answers: list[Answer] = []
    for (sent, ids), score in zip(prompts, scores, strict=True):
        text = sent if isinstance(sent, str) else model.tokenizer.decode(ids)
        tokens: list[PromptToken] = []
        for place, token in enumerate(ids):
            others: tuple[tuple[int, str, float], ...] = ()
            if score is not None and place and alternatives:
                others = tuple(
                    (other, model.tokenizer.decode_token(other), value)
                    for other, value in score.alternatives[place - 1]
                )
            log_prob = score.log_probs[place - 1] if score is not None and place else None
            tokens.append(PromptToken(model.tokenizer.decode_token(token), log_prob, others))
        answers += [
            Answer(len(answers) + row, text, tokens=list(tokens), echoed=len(ids)) for row in range(each)
        ]
    return answers


def _form(vector: list[float], encoding: str) -> list[float] | str:
    """Numbers, or the base64 of their float32 bytes."""
    if encoding == "float":
        return vector
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


async def _respond(
    engine: Engine,
    request: Request,
    body: Any,
    style: Style,
    prompts: list[list[int]],
    options: Any,
    answers: list[Answer],
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
        await _collect(request, jobs, body.n, answers)
        written = sum(len(answer.tokens) - answer.echoed for answer in answers)
        return JSONResponse(style.whole(answers, usage(read, written)))
    told = body.stream_options is not None and body.stream_options.include_usage
    return StreamingResponse(
        _events(request, jobs, body.n, style, read, told, answers),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


async def _collect(request: Request, jobs: Sequence[Job], each: int, answers: Sequence[Answer]) -> None:
    """Complete the answers; the work ends when the client leaves."""

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


async def _events(
    request: Request,
    jobs: Sequence[Job],
    each: int,
    style: Style,
    read: int,
    told: bool,
    answers: Sequence[Answer],
) -> AsyncIterator[bytes]:
    """Server-sent events. An error behind the first is an event too: the status is long sent."""
    written = 0
    held = [""] * len(answers)  # what may become a call is told when it is whole
    looking = asyncio.ensure_future(until_gone(request))
    try:
        opening = style.first(answers)
        if opening is not None:
            yield _event(opening)
        for answer in answers:
            if answer.echoed:
                yield _event(style.chunk(answer.index, answer.text, answer.tokens, 0, None))
                answer.tokens = []
        async for first, pieces in _merged(jobs, each, looking):
            for piece in pieces:
                answer = answers[first + piece.row]
                if piece.token is not None:
                    answer.tokens.append(piece.token)
                    written += 1
                held[answer.index] += piece.text
                if (held[answer.index] and not style.tools) or piece.finish:
                    # The tokens of a text that was held back come with it.
                    text, held[answer.index] = held[answer.index], ""
                    chunk = style.chunk(
                        answer.index, text, answer.tokens, len(answer.text), piece.finish or None
                    )
                    answer.text += text
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
