"""``multiway serve`` over real sockets with the bundled models, by the ``openai`` client and plain HTTP."""

import asyncio
import contextlib
import gc
import io
import json
import threading
import time
import wave
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated

import httpx
import numpy as np
import pytest
from multiway_core.app import installed_apps
from multiway_core.app.serve.operation import InputFile, Operation, Service, Streamed
from multiway_core.app.serve.service import Limits, build_server, endpoint, endpoint_of
from multiway_core.errors import InputError, ModelNotFoundError
from pydantic import Field

from tests.serving import serving

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def until(condition, seconds=30):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return False


@pytest.fixture(scope="module")
def everything():
    """The address of a server of all installed apps."""
    limits = Limits(max_bytes=4 << 20)
    endpoints = [
        endpoint_of(item.app, limits=limits) for item in installed_apps() if item.app and item.app.serve
    ]
    with serving(build_server(endpoints, limits, title="multiway")) as url:
        yield url


@pytest.fixture(scope="module")
def client(everything):
    openai = pytest.importorskip("openai")
    return openai.OpenAI(base_url=f"{everything}/v1", api_key="none", max_retries=0, timeout=120)


def test_models_are_listed_and_none_is_loaded_before_it_is_asked_for(everything, client):
    names = {model.id for model in client.models.list()}
    assert {"bundled:lm-tiny", "bundled:whisper-tiny.en", "bundled:tts-tiny", "bundled:ocr-small"} <= names
    health = httpx.get(f"{everything}/health").json()
    assert health["status"] == "ok"
    assert not any(model["loaded"] for model in health["models"] if "portal" in model["id"])


def test_chat_and_completions_by_the_openai_client(client):
    answer = client.chat.completions.create(
        model="lm-tiny", messages=[{"role": "user", "content": "hello"}], max_tokens=4, temperature=0
    )
    whole = answer.choices[0].message.content
    chunks = client.chat.completions.create(
        model="bundled:lm-tiny",
        messages=[{"role": "user", "content": "hello"}],
        max_tokens=4,
        temperature=0,
        stream=True,
    )
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == whole
    completion = client.completions.create(model="bundled:lm-tiny", prompt="The quick", max_tokens=3)
    assert completion.usage.completion_tokens <= 3


def test_embeddings_by_the_openai_client(client):
    found = client.embeddings.create(model="minilm-l6", input=["a cat", "a kitten", "the stock market"])
    cat, kitten, market = (np.array(item.embedding) for item in found.data)
    assert cat.shape == (384,)
    assert cat @ kitten > cat @ market + 0.3
    assert found.usage.prompt_tokens == 13


def test_without_an_app_that_gives_them_embeddings_are_not_found():
    with serving(build_server([], title="none")) as url:
        answer = httpx.post(f"{url}/v1/embeddings", json={})
    assert answer.status_code == 404
    assert answer.json()["error"]["message"] == "no installed app gives embeddings"


def test_transcription_by_the_openai_client(client):
    def transcribe(**options):
        with (EXAMPLES / "dialogue.flac").open("rb") as file:
            return client.audio.transcriptions.create(model="bundled:whisper-tiny.en", file=file, **options)

    text = transcribe().text
    assert "report" in text
    assert transcribe(response_format="text").strip() == text
    assert "-->" in transcribe(response_format="srt")
    verbose = transcribe(response_format="verbose_json")
    assert verbose.segments[0].end > verbose.segments[0].start
    assert verbose.source == "dialogue.flac"
    events = list(transcribe(stream=True))
    assert events[-1].type == "transcript.text.done"
    assert events[-1].text == text
    assert len(events) > 2


def test_speech_by_the_openai_client_is_streamed(client):
    import numpy as np
    import soundfile

    ask = {"model": "bundled:tts-tiny", "input": "Good morning.", "voice": "emma"}
    with client.audio.speech.with_streaming_response.create(**ask, response_format="pcm") as reply:
        pieces = list(reply.iter_bytes())
        assert reply.headers["content-type"] == "audio/pcm; rate=24000"
    assert sum(map(len, pieces)) > 10_000
    whole = client.audio.speech.create(**ask, response_format="wav").read()
    with wave.open(io.BytesIO(whole)) as sound:
        assert (sound.getnchannels(), sound.getsampwidth(), sound.getframerate()) == (1, 2, 16_000)
    slow, fast = (np.frombuffer(data, np.int16) for data in (whole[44:], b"".join(pieces)))
    assert abs(len(fast) - 1.5 * len(slow)) <= 64
    count = min(len(fast[::3]), len(slow[::2]))  # both at 8 kHz
    assert np.corrcoef(fast[::3][:count], slow[::2][:count])[0, 1] > 0.98
    samples, rate = soundfile.read(io.BytesIO(client.audio.speech.create(**ask).read()))
    assert rate == 16_000
    assert abs(len(samples) - (len(whole) - 44) / 2) < 5000


def test_errors_are_those_of_the_openai_client(client):
    import openai

    with pytest.raises(openai.NotFoundError, match="there is no model 'gpt'"):
        client.audio.speech.create(model="gpt", input="x", voice="emma")
    with pytest.raises(openai.BadRequestError, match="the model's voices are"):
        client.audio.speech.create(model="bundled:tts-tiny", input="x", voice="/etc/passwd")
    with pytest.raises(openai.BadRequestError) as caught:
        client.audio.transcriptions.create(
            model="bundled:whisper-tiny.en", file=("noise.wav", b"no sound at all")
        )
    assert "noise.wav" in str(caught.value)
    assert "/tmp" not in str(caught.value)
    assert "\n" not in caught.value.body["message"]
    with pytest.raises(openai.NotFoundError, match="there is no model 'x'"):
        client.embeddings.create(model="x", input="x")
    with pytest.raises(openai.APIStatusError) as caught:
        client.audio.transcriptions.create(model="bundled:whisper-tiny.en", file=("big.wav", bytes(5 << 20)))
    assert caught.value.status_code == 413


def test_pictures_and_recommendations(everything):
    with (EXAMPLES / "photo.png").open("rb") as file:
        page = httpx.post(f"{everything}/v1/ocr", files={"file": ("../a b.png", file)}, timeout=120).json()
    assert page["schema"] == "multiway.ocr/1"
    assert page["source"] == "a b.png"
    text = " ".join(line["text"] for line in page["pages"][0]["lines"])
    assert "segmentation" in text
    with (EXAMPLES / "coffee.jpg").open("rb") as file:
        found = httpx.post(
            f"{everything}/v1/grounding",
            files={"image": file},
            data={"task": "locate", "phrases": ["a cup", "an elephant"]},
            timeout=120,
        ).json()
    assert found["schema"] == "multiway.grounding/1"
    answer = httpx.post(
        f"{everything}/v1/recommendations", json={"history": [], "top": 3}, timeout=120
    ).json()
    assert answer["schema"] == "multiway.news-recommendation/1"
    assert len(answer["recommendations"]) == 3
    for body, status in (({}, 400), ({"history": [], "top": 1000}, 400), ({"user": "nobody"}, 400)):
        reply = httpx.post(f"{everything}/v1/recommendations", json=body, timeout=120)
        assert (reply.status_code, set(reply.json()["error"])) == (
            status,
            {"message", "type", "param", "code"},
        )


def test_events(everything, tmp_path):
    from multiway_event_detection.demo.examples import example_files

    path = example_files()[0][0]
    with path.open("rb") as file:
        answer = httpx.post(
            f"{everything}/v1/event-detections", files={"file": (path.name, file)}, timeout=120
        )
    assert answer.status_code == 200, answer.text
    assert answer.json()["source"] == path.name
    assert any(prediction for prediction in answer.json()["predictions"])


def test_frames(everything, tmp_path):
    import numpy as np
    from multiway_event_vision.rendering import write_mp4

    frames = [np.full((48, 64, 3), 20 * number, np.uint8) for number in range(4)]
    write_mp4(tmp_path / "a.mp4", iter(frames), frames_per_second=10)
    with (tmp_path / "a.mp4").open("rb") as file:
        answer = httpx.post(f"{everything}/v1/frame-interpolations", files={"video": file}, timeout=120)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "video/mp4"), answer.text
    assert answer.content[4:8] == b"ftyp"


def test_documentation_asks_no_other_host_and_describes_every_operation(everything):
    page = httpx.get(f"{everything}/docs").text
    assert "https://" not in page
    paths = httpx.get(f"{everything}/openapi.json").json()["paths"]
    for path in ("/v1/ocr", "/v1/audio/speech", "/v1/audio/transcriptions", "/v1/chat/completions"):
        assert paths[path]["post"]["description"]
    assert "multiway.ocr/1" in json.dumps(paths["/v1/ocr"])


@pytest.mark.requires("jsonschema")
def test_results_are_what_the_documentation_says(everything):
    import jsonschema
    from multiway_event_detection.demo.examples import example_files

    document = httpx.get(f"{everything}/openapi.json").json()

    def check(path, **request):
        answer = httpx.post(f"{everything}{path}", timeout=120, **request)
        assert answer.status_code == 200, answer.text
        described = document["paths"][path]["post"]["responses"]["200"]["content"]["application/json"][
            "schema"
        ]
        validator = jsonschema.Draft202012Validator({**described, "components": document["components"]})
        validator.validate(answer.json())
        assert not validator.is_valid({})

    check("/v1/ocr", files={"file": (EXAMPLES / "photo.png").open("rb")})
    check("/v1/grounding", files={"image": (EXAMPLES / "coffee.jpg").open("rb")})
    check("/v1/recommendations", json={"history": [], "top": 2, "explain": True})
    check("/v1/recommendations", json={"user": "U8", "top": 2, "explain": True})
    check("/v1/event-detections", files={"file": example_files()[0][0].open("rb")})
    for form in ("json", "verbose_json", "diarized_json"):
        sound = {"file": (EXAMPLES / "dialogue.flac").open("rb")}
        check("/v1/audio/transcriptions", files=sound, data={"response_format": form})
    check("/v1/similarity", json={"texts": ["a cat", "a kitten"], "others": ["a car"]})
    for form in ("float", "base64"):
        asked = {"model": "bundled:minilm-l6", "input": ["a cat"], "encoding_format": form}
        check("/v1/embeddings", json=asked)
    passage = {"text": "The bridge was closed on Monday. Engineers found cracks in two arches."}
    check("/v1/title", json=passage)
    check("/v1/summarize", json=passage | {"sentences": 1})
    check("/v1/ask", json=passage | {"answer": "on Monday"})
    message = [{"role": "user", "content": "hello"}]
    model = "bundled:lm-tiny"
    check("/v1/chat/completions", json={"model": model, "messages": message, "max_tokens": 2})
    check("/v1/completions", json={"model": model, "prompt": "The", "max_tokens": 2, "logprobs": 1})


def test_metrics_in_the_format_of_prometheus(everything):
    from prometheus_client.parser import text_string_to_metric_families

    httpx.get(f"{everything}/a/path/that/is/not/there")
    families = {
        family.name: family
        for family in text_string_to_metric_families(httpx.get(f"{everything}/metrics").text)
    }
    paths = {sample.labels["path"] for sample in families["multiway_requests"].samples}
    assert "other" in paths
    assert not any("not/there" in path for path in paths)
    assert {sample.labels["model"] for sample in families["multiway_model_loaded"].samples} >= {
        "bundled:lm-tiny"
    }


# The factory alone, with an operation that does what it is told


class Model:
    def __init__(self) -> None:
        self.gate = threading.Event()
        self.ended = threading.Event()


def wait(model, count: Annotated[int, Field(le=10_000)] = 1, how: str = "whole"):
    """Wait until the gate opens, or count."""
    try:
        if how == "streamed":
            yield Streamed("text/plain")
        for number in range(count):
            if how == "bug":
                raise RuntimeError("a secret")
            if how == "bad":
                raise InputError("that is bad")
            if how == "gate":
                model.gate.wait(20)
            else:
                time.sleep(0.002)
            yield f"{number} ".encode() if how == "streamed" else {"number": number}
    finally:
        model.ended.set()


def length(model, file: InputFile) -> dict:
    """Bytes of a file."""
    return {"length": len(file.read_bytes()), "source": str(file)}


SERVICE = Service(operations=(Operation("/v1/wait", wait), Operation("/v1/length", length)))


@contextlib.contextmanager
def small(load=Model, **limits):
    chosen = Limits(**limits)
    served = endpoint("small", SERVICE, load, chosen)
    with serving(build_server([served], chosen, title="small")) as url:
        yield url, served


def test_a_full_queue_is_429_with_retry_after():
    with small(max_queue=2) as (url, served), ThreadPoolExecutor(8) as pool:
        jobs = [pool.submit(httpx.post, f"{url}/v1/wait", json={"how": "gate"}, timeout=60) for _ in range(6)]
        assert until(lambda: sum(job.done() for job in jobs) == 3)
        assert httpx.get(f"{url}/health").json()["models"][0]["pending"] == 3
        served.model.loaded.gate.set()
        answers = [job.result() for job in jobs]
        assert sorted(answer.status_code for answer in answers) == [200] * 3 + [429] * 3
        refused = next(answer for answer in answers if answer.status_code == 429)
        assert int(refused.headers["Retry-After"]) >= 1
        assert refused.json()["error"]["code"] == "queue_full"
        assert until(lambda: served.worker.pending == 0)
        assert httpx.post(f"{url}/v1/wait", json={}).status_code == 200


def test_an_idle_model_is_dropped_and_loaded_again():
    made = []

    def load():
        model = Model()
        made.append(weakref.ref(model))
        return model

    with small(load, idle_seconds=0.3) as (url, served):
        assert not made
        assert httpx.post(f"{url}/v1/wait", json={"count": 400}).json() == {"number": 399}  # longer than idle
        assert served.model.loaded is not None
        assert until(lambda: served.model.loaded is None, 5)
        gc.collect()
        assert until(lambda: made[0]() is None, 5)
        assert httpx.post(f"{url}/v1/wait", json={}).status_code == 200
        assert len(made) == 2


def test_a_client_that_leaves_ends_its_work():
    with small() as (url, served):
        with httpx.stream("POST", f"{url}/v1/wait", json={"count": 5000, "how": "streamed"}) as reply:
            assert next(reply.iter_bytes())
        model = served.model.loaded
        assert model.ended.wait(3)
        model.ended.clear()
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{url}/v1/wait", json={"count": 5000}, timeout=0.3)
        assert model.ended.wait(3)
        assert until(lambda: served.worker.pending == 0)


def test_one_that_leaves_the_queue_is_never_worked_for():
    with small() as (url, served), ThreadPoolExecutor(2) as pool:
        first = pool.submit(httpx.post, f"{url}/v1/wait", json={"how": "gate"}, timeout=60)
        assert until(lambda: served.worker.pending == 1 and served.model.loaded is not None)
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{url}/v1/wait", json={}, timeout=0.3)
        assert until(lambda: served.worker.pending == 1, 5)
        served.model.loaded.gate.set()
        assert first.result().status_code == 200


def test_bad_input_bugs_and_models_that_cannot_be_loaded(capfd):
    with small() as (url, _):
        bad = httpx.post(f"{url}/v1/wait", json={"how": "bad"})
        assert (bad.status_code, bad.json()["error"]["message"]) == (400, "that is bad")
        bug = httpx.post(f"{url}/v1/wait", json={"how": "bug"})
        assert (bug.status_code, "secret" in bug.text) == (500, False)
        for body in ({"count": "many"}, {"count": 10**6}, []):
            assert httpx.post(f"{url}/v1/wait", json=body).status_code == 400
        sent = httpx.post(f"{url}/v1/length", files={"file": ("..", b"12345")}).json()
        assert sent == {"length": 5, "source": "file"}
        assert httpx.post(f"{url}/v1/length", data={}).json()["error"]["param"] == "file"

    def load():
        raise ModelNotFoundError("no such model")

    with small(load) as (url, served):
        missing = httpx.post(f"{url}/v1/wait", json={})
        assert (missing.status_code, missing.json()["error"]["code"]) == (503, "model_not_loaded")
        assert served.worker.pending == 0


def test_slow_bodies_and_foreign_hosts_and_keys(monkeypatch):
    monkeypatch.setattr("multiway_core.app.serve.gate.BODY_SECONDS", 0.3)
    with small(hosts=("127.0.0.1",), api_key="key") as (url, _):
        assert httpx.get(f"{url}/health", headers={"Host": "evil.example"}).status_code == 421
        assert httpx.post(f"{url}/v1/wait", json={}).status_code == 401
        key = {"Authorization": "Bearer key"}
        assert httpx.post(f"{url}/v1/wait", json={}, headers=key).status_code == 200

        async def drip():
            reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
            head = "POST /v1/wait HTTP/1.1|Host: 127.0.0.1|Authorization: Bearer key|Content-Length: 9||{"
            writer.write(head.replace("|", "\r\n").encode())
            answer = await asyncio.wait_for(reader.readline(), 10)
            writer.close()
            return answer

        assert b" 408 " in asyncio.run(drip())
