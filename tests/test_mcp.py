"""The tools for assistants, by an MCP client: over standard input and output, and over HTTP."""

import asyncio
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from multiway_core.errors import InputError

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
pytestmark = pytest.mark.requires("mcp")


def stdio(*arguments):
    import mcp

    return mcp.StdioServerParameters(
        command=sys.executable, args=["-m", "multiway", "mcp", *arguments], env=dict(os.environ)
    )


@pytest.fixture
def folder(tmp_path):
    inside = tmp_path / "inside"
    inside.mkdir()
    shutil.copy(EXAMPLES / "photo.png", inside)
    shutil.copy(EXAMPLES / "dialogue.flac", inside)
    (tmp_path / "secret.txt").write_text("a secret")
    (inside / "link.txt").symlink_to(tmp_path / "secret.txt")
    return inside


def test_tools_over_stdio(folder, tmp_path):
    import mcp

    async def talk():
        async with mcp.Client(stdio("--allow-folder", str(folder))) as client:
            tools = {tool.name: tool for tool in (await client.list_tools()).tools}
            page = await client.call_tool("ocr", {"file": "photo.png"})
            told = await client.call_tool("transcription", {"file": str(folder / "dialogue.flac")})
            said = await client.call_tool("speech", {"input": "Good morning.", "response_format": "wav"})
            listed = await client.call_tool("recommendations", {"history": [], "top": 2})
            words = await client.call_tool("language_model", {"prompt": "hello", "max_tokens": 3})
            refused = [
                await client.call_tool("ocr", {"file": path})
                for path in (
                    str(tmp_path / "secret.txt"),
                    "../secret.txt",
                    "link.txt",
                    "no.png",
                    "/etc/passwd",
                )
            ]
            bad = await client.call_tool("recommendations", {"history": [], "top": 0})
        return tools, page, told, said, listed, words, refused, bad

    tools, page, told, said, listed, words, refused, bad = asyncio.run(talk())
    assert {"ocr", "transcription", "speech", "grounding", "recommendations", "language_model"} <= set(tools)
    assert all(tool.description for tool in tools.values())
    assert json.loads(page.content[0].text)["source"] == "photo.png"
    assert "report" in json.loads(told.content[0].text)["text"]
    assert said.content[0].type == "audio"
    assert len(json.loads(listed.content[0].text)["recommendations"]) == 2
    assert "text" in json.loads(words.content[0].text)
    for answer in refused:
        assert answer.is_error
        assert "no such file in the allowed folders" in answer.content[0].text
    assert bad.is_error


def test_tools_over_http_for_their_own_host_alone(folder):
    import mcp

    command = [sys.executable, "-m", "multiway", "mcp", "--http", "--port", "0", "--app", "ocr"]
    with subprocess.Popen(
        [*command, "--allow-folder", str(folder)], stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            url = process.stderr.readline().split(" at ")[1].split()[0]

            async def talk():
                async with mcp.Client(url) as client:
                    return await client.call_tool("ocr", {"file": "photo.png"})

            page = asyncio.run(talk())
            assert json.loads(page.content[0].text)["schema"] == "multiway.ocr/1"
            foreign = httpx.post(url, json={}, headers={"Host": "evil.example"})
            assert foreign.status_code == 421
        finally:
            process.terminate()


def test_without_a_folder_no_file_is_read(folder):
    from multiway.mcp_server import allowed_path

    with pytest.raises(InputError, match="no folder is allowed"):
        allowed_path(str(folder / "photo.png"), [])
    assert allowed_path("photo.png", [folder.resolve()]).name == "photo.png"
