"""What goes wrong, as clients of the OpenAI API know it: ``{"error": {"message", "type", "param", "code"}}``."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from multiway_core.app.command import note
from multiway_core.errors import MultiwayError

_MAX_MESSAGE = 500  # characters of a message: a request's own text is not sent back whole


class ApiError(Exception):
    """An answer with an error status."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.headers = status, headers
        self.body = error_body(message, kind=kind, param=param, code=code)


def error_body(
    message: str, *, kind: str = "invalid_request_error", param: str | None = None, code: str | None = None
) -> dict[str, Any]:
    """The body of an error."""
    if len(message) > _MAX_MESSAGE:
        message = message[:_MAX_MESSAGE] + " ..."
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def install(app: FastAPI, program: str) -> None:
    """Let every error of the application have that shape; bugs are noted behind the program's name."""

    @app.exception_handler(ApiError)
    async def api(request: Request, error: ApiError) -> JSONResponse:
        return JSONResponse(error.body, error.status, error.headers)

    @app.exception_handler(MultiwayError)
    async def ours(request: Request, error: MultiwayError) -> JSONResponse:
        return JSONResponse(error_body(" ".join(str(error).split())), 400)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        path = [str(part) for part in first.get("loc", ()) if part != "body"]
        # A union's branches are named in the path after the field: they say nothing to the caller.
        param = path[0] if path and not path[0].isdigit() else None
        message = f"{param}: {first.get('msg')}" if param else str(first.get("msg"))
        return JSONResponse(error_body(message, param=param), 400)

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> JSONResponse:
        return JSONResponse(error_body(str(error.detail)), error.status_code, error.headers)

    @app.exception_handler(Exception)
    async def bug(request: Request, error: Exception) -> JSONResponse:
        note(f"{program}: {type(error).__name__}: {error}")
        return JSONResponse(error_body("the server failed at this request", kind="server_error"), 500)
