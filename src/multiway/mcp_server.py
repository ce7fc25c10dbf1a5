"""The apps' operations as tools for assistants, by the Model Context Protocol.

A tool takes the fields of the operation's request; a file is the path of one in a folder that the user allowed.
"""

from __future__ import annotations

import base64
import inspect
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import AudioContent, BlobResourceContents, EmbeddedResource, TextContent
from multiway_core.app.serve.errors import ApiError
from multiway_core.app.serve.operation import Content, Operation, Streamed, is_file, items_of
from multiway_core.app.serve.service import Endpoint
from multiway_core.errors import InputError, MultiwayError
from pydantic import Field


def build_mcp_server(endpoints: Sequence[Endpoint], folders: Sequence[Path]) -> MCPServer:
    """A server with a tool for each operation; files are read from ``folders`` alone. Raises InputError: no folder."""
    allowed = [_folder(folder) for folder in folders]
    server: MCPServer = MCPServer(
        "multiway", instructions="Tools that work on this machine's files, offline.", log_level="WARNING"
    )
    for served in endpoints:
        for operation in (*served.service.operations, *served.service.tools):
            tool = _tool(operation, served, allowed)
            server.add_tool(tool, operation.name, description=operation.summary, structured_output=False)
    return server


def allowed_path(text: str, folders: Sequence[Path]) -> Path:
    """The file of this path, if it lies in one of the folders, links followed. Raises InputError."""
    if not folders:
        raise InputError("no folder is allowed: start the server with --allow-folder DIR")
    path = Path(text).expanduser()
    tried = [path] if path.is_absolute() else [folder / path for folder in folders]
    for candidate in tried:
        try:
            found = candidate.resolve(strict=True)
        except (OSError, RuntimeError, ValueError):
            continue
        if found.is_file() and any(found.is_relative_to(folder) for folder in folders):
            return found
    # The same words whether there is such a file elsewhere or none: what exists there is nobody's concern.
    raise InputError(f"{text}: no such file in the allowed folders: {', '.join(map(str, folders))}")


def _folder(folder: Path) -> Path:
    if not folder.is_dir():
        raise InputError(f"--allow-folder {folder}: is no folder")
    return folder.resolve()


def _tool(operation: Operation, served: Endpoint, folders: Sequence[Path]) -> Any:
    files = operation.files()

    async def tool(**values: Any) -> Any:
        try:
            for name in files:
                values[name] = None if values[name] is None else allowed_path(values[name], folders)
            job = partial(items_of, operation, arguments=values)
            items = [item async for item in served.worker.stream(lambda model: job(model))]
        except (MultiwayError, ApiError) as error:
            raise ToolError(str(error)) from error
        return _content(items)

    path = Annotated[str, Field(description="Path of a file in an allowed folder.")]
    parameters = []
    for item in operation.parameters():
        annotation = item.annotation
        if is_file(annotation):
            annotation = path if item.default is inspect.Parameter.empty else path | None
        parameters.append(item.replace(annotation=annotation, kind=inspect.Parameter.KEYWORD_ONLY))
    tool.__name__, tool.__doc__ = operation.name, operation.summary
    tool.__signature__ = inspect.Signature(parameters, return_annotation=Any)  # type: ignore[attr-defined]
    return tool


def _content(items: list[Any]) -> Any:
    """What an operation gave, as MCP has it: text, sound, or a file."""
    if isinstance(items[0], Streamed):
        result: Any = Content(b"".join(items[1:]), items[0].media_type)
    else:
        result = items[-1]
    if not isinstance(result, Content):
        return TextContent(type="text", text=json.dumps(result, ensure_ascii=False))
    kind = result.media_type.partition(";")[0]
    if kind.startswith("text/") or kind == "application/x-subrip":
        return TextContent(type="text", text=result.data.decode())
    data = base64.b64encode(result.data).decode()
    if kind.startswith("audio/"):
        return AudioContent(type="audio", data=data, mime_type=result.media_type)
    blob = BlobResourceContents(uri="multiway://result", blob=data, mime_type=kind)
    return EmbeddedResource(type="resource", resource=blob)
