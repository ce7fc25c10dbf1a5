"""The server: embeddings in the OpenAI API's form, and similarity."""

from __future__ import annotations

import asyncio
import base64
from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import APIRouter, Request
from multiway_core.app.serve.errors import ApiError
from multiway_core.app.serve.operation import Operation, Service
from multiway_core.app.serve.service import Endpoint
from multiway_core.app.serve.worker import unless_gone
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool

from multiway_encoder.batcher import Batcher
from multiway_encoder.inputs import refuse_empty

if TYPE_CHECKING:
    from multiway_text.encoder.pipeline import EncoderPipeline

MAX_TEXTS = 2048
"""Of one request, as the OpenAI API has it."""
Texts = Annotated[list[str], Field(min_length=1, max_length=256)]


class EmbeddingsRequest(BaseModel):
    """Body of ``POST /v1/embeddings``."""

    model: str
    input: str | list[str] | list[int] | list[list[int]]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = None
    user: str | None = None

    def texts(self) -> list[str]:
        """The texts. Raises ApiError: none, too many, an empty one, or token ids."""
        found: list[Any] = [self.input] if isinstance(self.input, str) else list(self.input)
        if not found or len(found) > MAX_TEXTS:
            message = f"{len(found)} texts: give 1 to {MAX_TEXTS}"
            raise ApiError(400, message, param="input")
        for place, text in enumerate(found):
            if not isinstance(text, str):
                message = "token ids are another model's tokens: send the text itself"
                raise ApiError(400, message, param="input")
            if not text.strip():
                raise ApiError(400, f"input[{place}] is an empty text", param="input")
        return found


class Embedding(BaseModel):
    """The vector of a text: numbers, or their float32 bytes in base64."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class Usage(BaseModel):
    """Tokens of a request."""

    prompt_tokens: int
    total_tokens: int


class Embeddings(BaseModel):
    """Result of ``POST /v1/embeddings``."""

    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: Usage


class Similarities(BaseModel):
    """Result of ``POST /v1/similarity``: a row of cosines a text; ``truncated``: numbers of texts that were cut."""

    model: str
    texts: list[str]
    others: list[str]
    cosines: list[list[float]]
    truncated: list[int]


def add_routes(router: APIRouter, served: Endpoint) -> None:
    """The embeddings of requests that come side by side are computed together."""

    @router.post("/v1/embeddings", tags=["embeddings"], responses={200: {"model": Embeddings}})
    async def embeddings(body: EmbeddingsRequest, request: Request) -> dict[str, Any]:
        """Vectors of texts; a text longer than the model sees gets the mean of its windows' vectors."""
        served.check(body.model)
        texts = body.texts()
        batcher: Batcher = await served.model.get()
        width = batcher.pipeline.sentence.width
        if body.dimensions not in (None, width):
            message = f"dimensions {body.dimensions}: this model's vectors have {width} numbers"
            raise ApiError(400, message, param="dimensions")
        encodings = await run_in_threadpool(batcher.pipeline.encode, texts)
        job = batcher.submit(encodings)
        vectors = await unless_gone(request, asyncio.wrap_future(job.vectors))
        data = [
            {"object": "embedding", "index": place, "embedding": _form(vector, body.encoding_format)}
            for place, vector in enumerate(vectors)
        ]
        usage = {"prompt_tokens": job.tokens, "total_tokens": job.tokens}
        return {"object": "list", "data": data, "model": served.id, "usage": usage}


def text_similarity(batcher: Batcher, texts: Texts, others: Texts | None = None) -> dict[str, Any]:
    """Cosine similarity in meaning of texts with each other, or with others: 1 is the same, about 0 is unrelated."""
    refuse_empty([*texts, *(others or ())])
    return batcher.pipeline.similarity(texts, others, windows=True).to_json()


def _form(vector: Any, encoding: str) -> Any:
    if encoding == "base64":
        return base64.b64encode(vector.astype("<f4").tobytes()).decode()
    return vector.tolist()


def started_batcher(pipeline: EncoderPipeline) -> Batcher:
    """A batcher at work. Called where no event loop need run."""
    return Batcher(pipeline).start()


SERVICE = Service(
    operations=(
        Operation("/v1/similarity", text_similarity, Similarities, schema="multiway.encoder.similarity/1"),
    ),
    routes=add_routes,
    prepare=started_batcher,
    close=Batcher.stop,
    pending=Batcher.pending,
)
