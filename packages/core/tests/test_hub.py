from __future__ import annotations

import http.server
import importlib.metadata
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from huggingface_hub import constants
from hypothesis import given, settings
from hypothesis import strategies as st
from multiway_core import bundled_files, hub
from multiway_core.errors import CheckpointError, InputError, ModelNotFoundError

COMMIT = "0123456789abcdef0123456789abcdef01234567"
OLD_COMMIT = "f" * 40


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty hub cache, and an endpoint where nothing listens: no test can reach a network."""
    folder = tmp_path / "cache"
    folder.mkdir()
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    return folder


def add_snapshot(cache: Path, files: dict[str, bytes], commit: str = COMMIT, ref: str = "main") -> Path:
    """What the hub's client leaves in its cache: blobs, links to them in a snapshot, a named reference."""
    root = cache / "models--owner--model"
    snapshot = root / "snapshots" / commit
    (root / "blobs").mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        blob = root / "blobs" / f"{commit[:4]}-{name.replace('/', '-')}"
        blob.write_bytes(content)
        (snapshot / name).parent.mkdir(parents=True, exist_ok=True)
        (snapshot / name).symlink_to(blob)
    (root / "refs").mkdir(exist_ok=True)
    (root / "refs" / ref).write_text(commit)
    return snapshot


MODEL = {"config.json": b"{}", "model.safetensors": b"weights"}


class TestCache:
    def test_cached_model_needs_no_network(self, cache: Path) -> None:
        snapshot = add_snapshot(cache, MODEL)
        assert hub.resolve("owner/model") == snapshot
        assert (hub.resolve("owner/model", offline=True) / "model.safetensors").read_bytes() == b"weights"

    def test_revisions(self, cache: Path) -> None:
        new = add_snapshot(cache, MODEL)
        old = add_snapshot(cache, MODEL, commit=OLD_COMMIT, ref="v1.0")
        assert hub.resolve("owner/model@v1.0", offline=True) == old
        assert hub.resolve("owner/model", revision="v1.0", offline=True) == old
        assert hub.resolve(f"owner/model@{OLD_COMMIT}", offline=True) == old
        assert hub.resolve("owner/model@main", revision="main", offline=True) == new
        with pytest.raises(ModelNotFoundError, match="hf download owner/model --revision v2"):
            hub.resolve("owner/model@v2", offline=True)
        with pytest.raises(InputError, match="contradict"):
            hub.resolve("owner/model@v1.0", revision="main")

    @pytest.mark.parametrize("revision", ["../../x", "a/../b", "/etc", "-x", "a b", "a;b", "..", "a\n"])
    def test_bad_revisions(self, cache: Path, revision: str) -> None:
        add_snapshot(cache, MODEL)
        with pytest.raises(InputError, match="is not a revision"):
            hub.resolve("owner/model", revision=revision, offline=True)

    def test_sharded_model_is_taken_when_all_shards_are_there(self, cache: Path) -> None:
        index = json.dumps({"weight_map": {"a": "1.safetensors", "b": "2.safetensors"}}).encode()
        other = json.dumps({"weight_map": {"a": "1.bin"}}).encode()  # announced, but never fetched
        files = {"model.safetensors.index.json": index, "x.bin.index.json": other, "1.safetensors": b""}
        snapshot = add_snapshot(cache, files)
        with pytest.raises(ModelNotFoundError, match="only partly in the hub cache"):
            hub.resolve("owner/model", offline=True)
        add_snapshot(cache, {"2.safetensors": b""})
        assert hub.resolve("owner/model", offline=True) == snapshot

    def test_config_alone_is_not_a_model(self, cache: Path) -> None:
        snapshot = add_snapshot(cache, {"config.json": b"{}"})
        with pytest.raises(ModelNotFoundError, match="only partly in the hub cache"):
            hub.resolve("owner/model", offline=True)
        assert hub.resolve("owner/model", offline=True, allow_patterns=["*.json"]) == snapshot

    def test_lost_blob(self, cache: Path) -> None:
        snapshot = add_snapshot(cache, MODEL)
        (snapshot / "model.safetensors").resolve().unlink()
        with pytest.raises(ModelNotFoundError, match="only partly in the hub cache"):
            hub.resolve("owner/model", offline=True)


class TestOffline:
    def test_error_is_one_line_with_the_command(self, cache: Path) -> None:
        with pytest.raises(ModelNotFoundError) as caught:
            hub.resolve("owner/model@v1", offline=True, allow_patterns=["*.json", "*.safetensors"])
        assert str(caught.value) == (
            f"owner/model@v1 is not in the hub cache ({cache}) and offline mode is on; fetch it with: "
            "hf download owner/model --revision v1 --include '*.json' --include '*.safetensors'"
        )

    def test_environment_and_client_setting(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        with pytest.raises(ModelNotFoundError, match=r"is on; fetch it with: hf download owner/model$"):
            hub.resolve("owner/model")
        monkeypatch.delenv("HF_HUB_OFFLINE")
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        with pytest.raises(ModelNotFoundError, match="offline mode is on"):
            hub.resolve("owner/model")

    def test_no_network(self) -> None:
        with pytest.raises(
            ModelNotFoundError, match=r"fetching it failed \(.*\); fetch it with: hf download"
        ) as caught:
            hub.resolve("owner/model", offline=False)
        assert len(str(caught.value)) < 500


class FakeHub(http.server.BaseHTTPRequestHandler):
    """As much of the hub's protocol as a download needs, on this machine's loopback interface."""

    requests: list[str]

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        self.requests.append(path)
        base, name = "/api/models/owner/model", path.rsplit("/", 1)[-1]
        if path in (base, f"{base}/revision/main"):
            files = [{"rfilename": file} for file in MODEL]
            self.answer(200, json.dumps({"id": "owner/model", "sha": COMMIT, "siblings": files}).encode())
        elif path == f"{base}/tree/{COMMIT}":
            files = [
                {"type": "file", "oid": f"{i:040}", "size": len(c), "path": p}
                for i, (p, c) in enumerate(MODEL.items())
            ]
            self.answer(200, json.dumps(files).encode())
        elif path == f"/owner/model/resolve/{COMMIT}/{name}" and name in MODEL:
            self.answer(200, MODEL[name], ETag=f'"{name}"', **{"X-Repo-Commit": COMMIT})
        elif path.startswith("/api/models/owner/gated"):
            self.answer(403, b"{}", **{"X-Error-Code": "GatedRepo"})
        elif path == f"{base}/revision/none":
            self.answer(404, b"{}", **{"X-Error-Code": "RevisionNotFound"})
        elif path.startswith("/api/models/owner/broken"):
            self.answer(500, b"{}")
        else:
            self.answer(404, b"{}", **{"X-Error-Code": "RepoNotFound"})

    do_HEAD = do_GET

    def answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass


class TestFetch:
    @pytest.fixture(autouse=True)
    def server(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
        FakeHub.requests = []
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), FakeHub)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        endpoint = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setattr(constants, "ENDPOINT", endpoint)
        monkeypatch.setattr(
            constants,
            "HUGGINGFACE_CO_URL_TEMPLATE",
            endpoint + "/{repo_id}/resolve/{revision}/{filename}",
        )
        yield FakeHub.requests
        server.shutdown()
        thread.join()
        server.server_close()

    def test_fetched_once_then_cached(self, cache: Path, server: list[str]) -> None:
        folder = hub.resolve("owner/model")
        assert folder == cache / "models--owner--model" / "snapshots" / COMMIT
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == MODEL
        server.clear()
        assert hub.resolve("owner/model") == folder
        assert server == []

    def test_partly_cached_is_completed(self, cache: Path) -> None:
        add_snapshot(cache, {"config.json": b"{}"})
        assert (hub.resolve("owner/model") / "model.safetensors").read_bytes() == b"weights"

    def test_only_the_asked_files(self) -> None:
        folder = hub.resolve("owner/model", allow_patterns=["*.json"])
        assert [path.name for path in folder.iterdir()] == ["config.json"]

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("owner/absent", "the hub knows no model owner/absent, or it is private"),
            ("owner/gated", "owner/gated asks for consent: accept its terms at http"),
            ("owner/model@none", "owner/model has no revision 'none' on the hub"),
            ("owner/broken", r"fetching it failed \(.*500.*\); fetch it with: hf download owner/broken"),
        ],
    )
    def test_refusals_of_the_hub(self, name: str, message: str) -> None:
        with pytest.raises(ModelNotFoundError, match=message):
            hub.resolve(name)

    def test_offline_asks_nobody(self, server: list[str]) -> None:
        with pytest.raises(ModelNotFoundError, match="offline"):
            hub.resolve("owner/model", offline=True)
        assert server == []


class TestLocal:
    def test_snapshot_folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        folder = tmp_path / "owner" / "model"
        folder.mkdir(parents=True)
        assert hub.resolve(str(folder)) == folder
        monkeypatch.chdir(tmp_path)
        assert hub.resolve("owner/model") == Path("owner/model")  # as near as possible: a path before the hub
        monkeypatch.setenv("HOME", str(tmp_path))
        assert hub.resolve("~/owner/model") == folder
        with pytest.raises(InputError, match="has no revision"):
            hub.resolve(str(folder), revision="main")

    def test_checkpoint_file(self, tmp_path: Path) -> None:
        (tmp_path / "ckpt.pt").touch()
        assert hub.resolve(str(tmp_path / "ckpt.pt")) == tmp_path / "ckpt.pt"

    @pytest.mark.parametrize(
        "name",
        [
            "",
            "nothing",
            "./no/folder",
            "/no/folder",
            "a/b/c",
            "../x",
            "a/..",
            "a\\b",
            "owner/mo del",
            "x\0y",
            "@main",
            "a/",
            "~0",
            "x" * 5000,
        ],
    )
    def test_neither_path_nor_hub_id(self, name: str) -> None:
        with pytest.raises(ModelNotFoundError, match="neither an existing path nor a hub id"):
            hub.resolve(name)

    @given(name=st.text(max_size=12))
    @settings(max_examples=100, deadline=None)
    def test_any_text(self, name: str) -> None:
        try:
            assert hub.resolve(name, offline=True).exists()
        except (InputError, ModelNotFoundError) as error:
            assert str(error).isprintable()  # noqa: PT017


class TestBundled:
    @pytest.fixture(autouse=True)
    def package(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """An importable package that brings the model `tiny` and announces three."""
        package = tmp_path / "site" / "sample_models"
        (package / "pretrained" / "tiny").mkdir(parents=True)
        (package / "__init__.py").write_text("raise RuntimeError('a look-up must not run the package')")
        (package / "pretrained" / "secret").mkdir()
        monkeypatch.syspath_prepend(str(tmp_path / "site"))
        announced = {
            "tiny": "sample_models",
            "absent": "sample_models",
            "gone": "no_such_package",
            "../x": "sample_models",
        }
        entries = [importlib.metadata.EntryPoint(n, v, hub.ENTRY_POINT_GROUP) for n, v in announced.items()]
        monkeypatch.setattr(
            importlib.metadata, "entry_points", lambda group: importlib.metadata.EntryPoints(entries)
        )
        return package

    def test_look_up(self, package: Path) -> None:
        assert hub.resolve("bundled:tiny") == package / "pretrained" / "tiny"
        assert hub.bundled() == {"tiny": package / "pretrained" / "tiny"}

    def test_one_gguf_file_of_a_package(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        package = tmp_path / "weights_of_another"
        package.mkdir()
        (package / "__init__.py").write_text("raise RuntimeError('must not run')")
        (package / "model.Q4.gguf").write_bytes(b"GGUF")
        monkeypatch.syspath_prepend(tmp_path)
        assert hub.resolve("package:weights-of-another") == package / "model.Q4.gguf"
        (package / "second.gguf").write_bytes(b"GGUF")
        with pytest.raises(ModelNotFoundError, match="holds no model"):
            hub.resolve("package:weights-of-another")

    @pytest.mark.parametrize(
        "name", ["", "secret", "../x", "../pretrained/tiny", "tiny/", "/etc", "tiny/../tiny", "gone"]
    )
    def test_only_announced_names(self, name: str) -> None:
        with pytest.raises(ModelNotFoundError, match=r"no bundled model .*; installed are: bundled:tiny"):
            hub.resolve(f"bundled:{name}")

    def test_hints(self) -> None:
        with pytest.raises(ModelNotFoundError, match=r"did you mean bundled:tiny\?"):
            hub.resolve("tiny")
        with pytest.raises(InputError, match="has no revision"):
            hub.resolve("bundled:tiny", revision="main")

    def test_damaged_files_are_refused_and_whole_ones_are_read_once(
        self, package: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder = package / "pretrained" / "tiny"
        (folder / "voices").mkdir()
        weights = folder / "voices" / "a.safetensors"
        weights.write_bytes(b"weights")
        bundled_files.write(folder)
        for content, problem in ((b"weightz", "damaged"), (None, "missing")):
            weights.unlink() if content is None else weights.write_bytes(content)
            with pytest.raises(CheckpointError, match=rf"a\.safetensors: {problem}, not as it was published"):
                hub.resolve("bundled:tiny")
        weights.write_bytes(b"weights")
        assert hub.resolve("bundled:tiny") == folder
        monkeypatch.setattr(bundled_files, "sha256", None)
        assert hub.resolve("bundled:tiny") == folder
        (folder / bundled_files.SUMS).write_text("[]")
        bundled_files.check.cache_clear()
        with pytest.raises(CheckpointError, match="damaged"):
            hub.resolve("bundled:tiny")


def test_installed_bundled_models_have_folders() -> None:
    for name, folder in hub.bundled().items():
        assert hub.resolve(f"bundled:{name}") == folder
        assert folder.is_dir()


def test_every_installed_bundled_model_has_the_sums_of_all_its_files() -> None:
    for folder in hub.bundled().values():
        written = json.loads((folder / bundled_files.SUMS).read_text())
        assert written == bundled_files.sums_of(folder), f"python -m multiway_core.bundled_files {folder}"
