"""The server over real sockets: answers, streams, limits, and clients that come in crowds and leave."""

from __future__ import annotations

import asyncio
import gc
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
import uvicorn
from multiway_core.app.serve.service import Limits
from multiway_core.generation import StaticKVCache
from multiway_lm.server import build_server
from multiway_text.sampling import SamplingOptions

LONG = {"prompt": "The quick", "max_tokens": 150, "temperature": 1.0, "seed": 0}


class Served:
    """A server in a thread of this process."""

    def __init__(self, model, max_concurrency=8, **limits) -> None:
        limits = Limits(**{"max_queue": 64, "max_bytes": 1 << 20, "idle_seconds": None} | limits)
        self.app = build_server(lambda: model, "tiny", limits, max_concurrency=max_concurrency)
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listening.getsockname()[1]}"
        self.server = uvicorn.Server(
            uvicorn.Config(self.app, log_level="warning", timeout_graceful_shutdown=2)
        )
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [self.listening]})

    @property
    def engine(self):
        return self.app.state.served.model.loaded

    def __enter__(self):
        self.thread.start()
        while not self.server.started:
            time.sleep(0.01)
        self.client = httpx.Client(base_url=self.url, timeout=120)
        return self

    def __exit__(self, *exception) -> None:
        self.client.close()
        engine = self.engine
        self.server.should_exit = True
        self.thread.join(timeout=60)
        assert not self.thread.is_alive()
        assert not engine.thread.is_alive()

    def post(self, path="completions", **body):
        return self.client.post(f"/v1/{path}", json={"model": "tiny", **body})

    def idle(self, seconds=60) -> bool:
        """Whether nothing runs or waits before the time is over."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if not self.engine.active and not self.engine.waiting:
                return True
            time.sleep(0.02)
        return False


@pytest.fixture(scope="module")
def served(model):
    with Served(model) as served:
        yield served


def events(text):
    lines = [line.removeprefix("data: ") for line in text.split("\n\n") if line]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


def test_completion(served, model) -> None:
    expected = model.generate("The quick", SamplingOptions(max_tokens=8))[0]
    body = served.post(prompt="The quick", max_tokens=8, temperature=0, logprobs=2).json()
    assert body["object"] == "text_completion"
    assert body["model"] == "tiny"
    choice = body["choices"][0]
    assert (choice["text"], choice["finish_reason"]) == (expected.text, "length")
    assert body["usage"] == {
        "prompt_tokens": expected.prompt_tokens,
        "completion_tokens": 8,
        "total_tokens": expected.prompt_tokens + 8,
    }
    assert len(choice["logprobs"]["tokens"]) == 8
    assert choice["logprobs"]["token_logprobs"] == pytest.approx([t.log_prob for t in expected.tokens])
    assert 1 <= len(choice["logprobs"]["top_logprobs"][0]) <= 2
    ids = served.post(prompt=model.prompt_ids("The quick"), max_tokens=8, temperature=0).json()
    assert ids["choices"][0]["text"] == expected.text


def test_several_prompts_and_answers(served) -> None:
    body = served.post(prompt=["The quick", "A river"], n=2, max_tokens=5, seed=1, temperature=1).json()
    assert [choice["index"] for choice in body["choices"]] == [0, 1, 2, 3]
    assert body["usage"]["completion_tokens"] <= 20
    alone = served.post(prompt="A river", n=2, max_tokens=5, seed=1, temperature=1).json()
    assert [c["text"] for c in body["choices"][2:]] == [c["text"] for c in alone["choices"]]


def test_stream_is_the_whole(served) -> None:
    ask = {**LONG, "logprobs": 0, "n": 2, "max_tokens": 20}
    whole = served.post(**ask).json()
    response = served.post(**ask, stream=True, stream_options={"include_usage": True})
    assert response.headers["content-type"].startswith("text/event-stream")
    *chunks, last = events(response.text)
    assert last["usage"] == whole["usage"]
    for index, choice in enumerate(whole["choices"]):
        mine = [chunk["choices"][0] for chunk in chunks if chunk["choices"][0]["index"] == index]
        assert "".join(part["text"] for part in mine) == choice["text"]
        assert [part["finish_reason"] for part in mine if part["finish_reason"]] == [choice["finish_reason"]]
        tokens = [t for part in mine if part["logprobs"] for t in part["logprobs"]["tokens"]]
        assert tokens == choice["logprobs"]["tokens"]


def test_chat(served, model) -> None:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hello"}]
    expected = model.generate(messages, SamplingOptions(max_tokens=6))[0]
    ask = {"messages": messages, "max_completion_tokens": 6, "temperature": 0, "logprobs": True}
    body = served.post("chat/completions", **ask, top_logprobs=2).json()
    assert body["object"] == "chat.completion"
    assert body["choices"][0]["message"] == {"role": "assistant", "content": expected.text}
    content = body["choices"][0]["logprobs"]["content"]
    assert len(content) == 6
    assert len(content[0]["top_logprobs"]) == 2
    chunks = events(served.post("chat/completions", **ask, stream=True).text)
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    assert "".join(c["choices"][0]["delta"].get("content", "") for c in chunks) == expected.text
    parts = [{"role": "user", "content": [{"type": "text", "text": "hello"}]}]
    assert served.post("chat/completions", messages=parts, max_tokens=3).status_code == 200


def test_models_and_health(served) -> None:
    assert served.client.get("/v1/models").json()["data"][0]["id"] == "tiny"
    assert served.client.get("/health").json()["status"] == "ok"


@pytest.mark.parametrize(
    ("change", "status", "message"),
    [
        ({"max_tokens": -5}, 400, "max_tokens: Input should be greater than or equal to 0"),
        ({"max_tokens": 0}, 400, "max_tokens"),
        ({"max_tokens": 10**9}, 400, "this server gives at most 4096"),
        ({"max_tokens": 400}, 400, "do not fit the model's context of 256"),
        ({"max_tokens": "many"}, 400, "max_tokens"),
        ({"n": -1}, 400, "n: "),
        ({"n": 1000}, 400, "n: "),
        ({"prompt": ["a"] * 9, "n": 2}, 400, "16 together are the most"),
        ({"temperature": -1}, 400, "temperature"),
        ({"top_p": 0}, 400, "top_p"),
        ({"logprobs": 99}, 400, "logprobs"),
        ({"stop": ["x"] * 40}, 400, "stop takes up to 16 texts"),
        ({"prompt": ""}, 400, "the prompt is empty"),
        ({"prompt": []}, 400, "the prompt is empty"),
        ({"prompt": [[]]}, 400, "the prompt is empty"),
        ({"prompt": [1, 99999]}, 400, "token 99999 is out of the vocabulary"),
        ({"prompt": [-1]}, 400, "token -1 is out of the vocabulary"),
        ({"prompt": "word " * 2000}, 400, "the model's context is 256"),
        ({"prompt": None}, 400, "prompt"),
        ({"model": "gpt"}, 404, "there is no model 'gpt'; this server has 'tiny'"),
        ({"best_of": 3}, 400, "best_of is not supported"),
        ({"logit_bias": {"3": 1}}, 400, "logit_bias is not supported"),
    ],
)
def test_what_is_refused(served, change, status, message) -> None:
    response = served.post(**{"prompt": "The", "max_tokens": 3, **change})
    assert response.status_code == status
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert message in error["message"]


def test_bad_bodies(served) -> None:
    def post(data):
        return served.client.post(
            "/v1/chat/completions", content=data, headers={"Content-Type": "application/json"}
        )

    for data in (b"", b"{", b"[" * 100_000, b"\xff\xfe", b'"text"', b'{"model": "tiny", "messages": []}'):
        response = post(data)
        assert response.status_code == 400, data[:20]
        assert response.json()["error"]["type"] == "invalid_request_error"
    surrogate = post(
        b'{"model": "tiny", "max_tokens": 2, "messages": [{"role": "user", "content": "\\ud800"}]}'
    )
    assert surrogate.status_code == 200
    for messages in ([{"role": "tool", "content": "x"}], [{"role": "user", "content": " "}], [3]):
        assert served.post("chat/completions", messages=messages).status_code == 400
    assert served.client.get("/v1/nothing").json()["error"]["message"] == "Not Found"
    assert served.client.get("/v1/completions").status_code == 405
    assert served.post(prompt="The", max_tokens=1).status_code == 200


def test_ten_megabytes_are_too_many(served) -> None:
    response = served.post(prompt="x" * 10_000_000)
    assert response.status_code == 413
    assert response.json()["error"]["code"] == "request_too_large"
    # A body whose size nobody announces is counted as it comes.
    response = served.client.post("/v1/completions", content=(b"x" * 65536 for _ in range(160)))
    assert response.status_code == 413
    assert served.post(prompt="The", max_tokens=1).status_code == 200


def test_a_key(model) -> None:
    with Served(model, api_key="secret") as served:
        assert served.post(prompt="The", max_tokens=1).status_code == 401
        wrong = served.client.get("/v1/models", headers={"Authorization": "Bearer wröng".encode()})
        assert (wrong.status_code, wrong.json()["error"]["code"]) == (401, "invalid_api_key")
        right = served.client.get("/v1/models", headers={"Authorization": "Bearer secret"})
        assert right.status_code == 200
        assert served.client.get("/health").status_code == 200


def test_a_full_queue_says_so(model) -> None:
    with Served(model, max_concurrency=1, max_queue=1) as served, ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: served.post(**LONG), range(8)))
        codes = [answer.status_code for answer in answers]
        assert set(codes) == {200, 429}
        refused = next(answer for answer in answers if answer.status_code == 429)
        assert refused.headers["Retry-After"]
        assert refused.json()["error"]["code"] == "queue_full"
        assert served.idle()
        assert served.post(prompt="The", max_tokens=1).status_code == 200


def test_one_who_leaves_is_forgotten(model, monkeypatch) -> None:
    body = {"model": "tiny", **LONG, "n": 16, "max_tokens": 200}
    with Served(model, max_concurrency=1, max_queue=8) as served:
        step = served.engine._step

        def slow_step(job) -> None:  # on no machine is the answer there before its reader leaves
            time.sleep(0.01)
            step(job)

        monkeypatch.setattr(served.engine, "_step", slow_step)
        with httpx.stream("POST", f"{served.url}/v1/completions", json={**body, "stream": True}) as reply:
            assert next(reply.iter_lines())
        assert served.idle()
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{served.url}/v1/completions", json=body, timeout=0.3)
        assert served.idle()


def test_a_hundred_streams_of_which_half_leave(served) -> None:
    """Everyone who stays gets the whole answer; nothing hangs; the memory comes back."""
    served.engine.max_queue = 200
    long = {**LONG, "model": "tiny", "max_tokens": 24}
    expected = served.post(**long).json()["choices"][0]["text"]

    async def ask(client, number: int) -> str | None:
        async with client.stream("POST", "/v1/completions", json={**long, "stream": True}) as reply:
            assert reply.status_code == 200
            text, count = "", 0
            async for line in reply.aiter_lines():
                if number % 2 and count >= number % 20:  # some at once, some in the middle
                    return None
                count += 1
                if line.startswith("data: {"):
                    text += json.loads(line[6:])["choices"][0]["text"]
                if line == "data: [DONE]":
                    return text
        raise AssertionError("the stream ended without its end")

    async def crowd(size: int) -> list[str | None]:
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=served.url, timeout=250, limits=limits) as client:
            return await asyncio.gather(*(ask(client, number) for number in range(size)))

    asyncio.run(crowd(10))
    before = resident()
    answers = asyncio.run(crowd(100))
    assert answers[::2] == [expected] * 50
    assert answers[1::2] == [None] * 50
    assert served.idle()
    gc.collect()
    assert not any(type(thing) is StaticKVCache for thing in gc.get_objects())
    assert resident() - before < 30 << 20
    assert served.post(prompt="The", max_tokens=1).status_code == 200


def resident() -> int:
    """Bytes of this process in memory, now."""
    with open("/proc/self/statm") as file:  # noqa: PTH123
        return int(file.read().split()[1]) * 4096


def test_stopping_ends_streams(model) -> None:
    with Served(model) as served:
        body = {"model": "tiny", **LONG, "n": 16, "max_tokens": 200, "stream": True}
        with httpx.stream("POST", f"{served.url}/v1/completions", json=body, timeout=60) as reply:
            lines = reply.iter_lines()
            assert next(lines)
            served.engine.stop()
            rest = "\n".join(lines)
        assert "the server is shutting down" in rest
        assert served.post(prompt="The").status_code == 503


def test_an_idle_model_is_dropped_and_loaded_again(model) -> None:
    with Served(model, idle_seconds=0.2) as served:
        end = time.monotonic() + 30
        while served.engine is not None and time.monotonic() < end:
            time.sleep(0.02)
        assert served.engine is None
        assert served.post(prompt="The", max_tokens=2).status_code == 200
        served.app.state.served.model.idle_seconds = None  # the engine is looked at when the server ends
        assert served.post(prompt="The", max_tokens=2).status_code == 200


def test_the_command_serves_until_ctrl_c(folder) -> None:
    command = [sys.executable, "-m", "multiway_lm", "serve", "--model", str(folder), "--name", "tiny"]
    with subprocess.Popen([*command, "--port", "0"], stderr=subprocess.PIPE, text=True) as process:
        try:
            told = process.stderr.readline()
            url = told.split(" is open at ")[1].split(",")[0]
            body = {"model": "tiny", "prompt": "The", "max_tokens": 2}
            assert httpx.post(f"{url}/completions", json=body, timeout=120).status_code == 200
            process.send_signal(signal.SIGINT)
            rest = process.stderr.read()
        finally:
            process.kill()
    assert process.returncode in (0, 130)
    assert "Traceback" not in rest
