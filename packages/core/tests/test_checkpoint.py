from __future__ import annotations

import argparse
import json
import os
import pickle
import resource
import signal
import subprocess
import sys
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from multiway_core import checkpoint
from multiway_core.checkpoint import Rule, RuleTable
from multiway_core.errors import CheckpointError, OutputError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.query = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)


class Net(nn.Module):
    """Tied embedding and head, nested blocks, an integer and a float buffer."""

    counter: Tensor

    def __init__(self, width: int = 8, depth: int = 2) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, width)
        self.blocks = nn.ModuleList(Block(width) for _ in range(depth))
        self.head = nn.Linear(width, 11, bias=False)
        self.head.weight = self.embed.weight
        self.register_buffer("counter", torch.tensor(3))
        self.register_buffer("scale", torch.ones(width))


RULES = RuleTable(
    [
        Rule("decoder.embed_tokens.weight", "embed.weight"),
        Rule("decoder.layers.{i}.self_attn.q_proj.{kind}", "blocks.{i}.query.{kind}"),
        Rule("decoder.layers.{i}.layer_norm.{kind}", "blocks.{i}.norm.{kind}"),
        Rule("buffers.{rest*}", "{rest*}"),
    ],
    dropped=["decoder.version", "decoder.{part}._float_tensor"],
)


def seeded(seed: int = 0, **arguments: int) -> Net:
    torch.manual_seed(seed)
    net = Net(**arguments)
    for parameter in net.parameters():
        nn.init.normal_(parameter)
    return net


def on_meta() -> Net:
    with checkpoint.on_meta():
        return Net()


def assert_equal(one: nn.Module, other: nn.Module) -> None:
    expected = one.state_dict()
    found = other.state_dict()
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name
        assert found[name].dtype == tensor.dtype, name


def folder_bytes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


class TestRules:
    def test_both_directions(self) -> None:
        assert RULES.to_ours("decoder.layers.11.self_attn.q_proj.bias") == "blocks.11.query.bias"
        assert RULES.to_published("blocks.11.query.bias") == "decoder.layers.11.self_attn.q_proj.bias"
        assert RULES.to_ours("decoder.embed_tokens.weight") == "embed.weight"
        assert RULES.to_ours("decoder.version") is None
        assert RULES.to_ours("decoder.embed_positions._float_tensor") is None

    def test_one_part_is_one_part_and_dots_are_dots(self) -> None:
        rule = Rule("a.{i}.b", "{i}")
        assert rule.to_ours("a.1.2.b") is None
        assert rule.to_ours("a_1.b") is None
        assert Rule("a.{i*}.b", "c.{i*}").to_ours("a.1.2.b") == "c.1.2"

    def test_names_without_rule_are_errors(self) -> None:
        with pytest.raises(CheckpointError, match=r"no rule for the published tensor x\.y"):
            RULES.to_ours("x.y")
        with pytest.raises(CheckpointError, match="no rule for the tensor head"):
            RuleTable([Rule("a", "b")]).to_published("head")

    @pytest.mark.parametrize(
        ("published", "ours"), [("a.{i}", "b"), ("a.{i}.{i}", "b.{i}.{i}"), ("{i}", "{i*}")]
    )
    def test_a_rule_must_be_invertible(self, published: str, ours: str) -> None:
        with pytest.raises(ValueError, match="placeholders"):
            Rule(published, ours)

    @given(
        st.lists(st.text(min_size=1, max_size=5).filter(lambda part: "." not in part), min_size=2, max_size=4)
    )
    @settings(max_examples=60, deadline=None)
    def test_round_trip_of_any_parts(self, parts: list[str]) -> None:
        rule = Rule("x.{first}.(y).{rest*}", "{rest*}.z+.{first}")
        published = f"x.{parts[0]}.(y).{'.'.join(parts[1:])}"
        ours = rule.to_ours(published)
        assert ours is not None
        assert rule.to_published(ours) == published


def test_building_on_meta_draws_nothing() -> None:
    state = torch.get_rng_state()
    with checkpoint.on_meta():
        net = Net()
        for fill in (
            nn.init.normal_,
            nn.init.trunc_normal_,
            nn.init.xavier_uniform_,
            nn.init.kaiming_normal_,
        ):
            assert fill(net.head.weight) is net.head.weight
        table = torch.zeros(2, 2, device="cpu").normal_()
    assert all(parameter.is_meta for parameter in net.parameters())
    assert net.embed.weight.shape == (11, 8)
    assert table.abs().sum() > 0
    with checkpoint.on_meta():
        pass
    assert not nn.Linear(2, 2).weight.is_meta
    torch.set_rng_state(state)


class TestRoundTrip:
    @pytest.mark.parametrize("max_shard_bytes", [5_000_000_000, 600])
    def test_published_to_ours_to_published_is_byte_equal(self, tmp_path: Path, max_shard_bytes: int) -> None:
        net = seeded()
        checkpoint.save(net, tmp_path / "published", rules=RULES, max_shard_bytes=max_shard_bytes)
        names = set(checkpoint.read(tmp_path / "published"))
        assert "decoder.layers.1.self_attn.q_proj.bias" in names
        assert "buffers.counter" in names
        assert len(names) == 2 * 4 + 1 + 2  # the tied head is written once

        ours = on_meta()
        checkpoint.load(ours, tmp_path / "published", rules=RULES)
        assert_equal(ours, net)
        checkpoint.save(ours, tmp_path / "again", rules=RULES, max_shard_bytes=max_shard_bytes)
        assert folder_bytes(tmp_path / "again") == folder_bytes(tmp_path / "published")
        assert len(folder_bytes(tmp_path / "again")) == (1 if max_shard_bytes > 600 else 4)

    def test_our_bytes_are_those_of_the_library(self, tmp_path: Path) -> None:
        tensors = {"b": torch.randn(3, 5), "a": torch.arange(4), "c": torch.randn(2).bfloat16()}
        save_file(tensors, tmp_path / "theirs.safetensors", metadata={"format": "pt"})
        checkpoint.save(checkpoint.read(tmp_path / "theirs.safetensors"), tmp_path / "ours")
        written = (tmp_path / "ours" / "model.safetensors").read_bytes()
        assert written == (tmp_path / "theirs.safetensors").read_bytes()

    def test_transposed_expanded_and_empty_tensors(self, tmp_path: Path) -> None:
        tensors = {
            "t": torch.randn(3, 5).T,
            "e": torch.ones(1).expand(4),
            "n": torch.empty(0, 2),
            "m": torch.empty(0),
        }
        checkpoint.save(tensors, tmp_path)
        found = checkpoint.read(tmp_path)
        assert found.keys() == tensors.keys()
        for name, tensor in tensors.items():
            assert torch.equal(found[name], tensor)

    def test_shards_follow_the_hub_layout(self, tmp_path: Path) -> None:
        checkpoint.save({"a": torch.zeros(100), "b": torch.ones(100)}, tmp_path, max_shard_bytes=400)
        assert sorted(folder_bytes(tmp_path)) == [
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
            "model.safetensors.index.json",
        ]
        index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
        assert index["metadata"] == {"total_size": 800}
        assert load_file(tmp_path / index["weight_map"]["b"]).keys() == {"b"}

    @pytest.mark.parametrize(("first", "second"), [(600, 10**9), (10**9, 600), (600, 900)])
    def test_a_new_layout_replaces_the_old_one(self, tmp_path: Path, first: int, second: int) -> None:
        checkpoint.save(seeded(1), tmp_path, max_shard_bytes=first)
        checkpoint.save(seeded(2), tmp_path, max_shard_bytes=second)
        net = on_meta()
        checkpoint.load(net, tmp_path)
        assert_equal(net, seeded(2))
        checkpoint.save(seeded(2), tmp_path / "fresh", max_shard_bytes=second)
        assert {p.name for p in tmp_path.iterdir()} - {"fresh"} == set(folder_bytes(tmp_path / "fresh"))

    def test_a_full_disk_keeps_the_old_checkpoint(self, tmp_path: Path) -> None:
        checkpoint.save(seeded(1), tmp_path)
        before = folder_bytes(tmp_path)
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (500, limits[1]))
        try:
            with pytest.raises(OutputError, match=r"cannot write .*model"):
                checkpoint.save(seeded(2), tmp_path)
            with pytest.raises(OutputError, match=r"cannot write .*model-00002"):
                checkpoint.save({"a": torch.ones(10), "b": torch.ones(1000)}, tmp_path, max_shard_bytes=100)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            signal.signal(signal.SIGXFSZ, handler)
        assert folder_bytes(tmp_path) == before

    def test_values_are_needed(self, tmp_path: Path) -> None:
        with pytest.raises(CheckpointError, match=r"cannot save counter: it has no values"):
            checkpoint.save(on_meta(), tmp_path)


class TestLoad:
    def test_tied_parameters_stay_one(self, tmp_path: Path) -> None:
        checkpoint.save(seeded(), tmp_path)
        assert "head.weight" not in checkpoint.read(tmp_path)
        for net in (on_meta(), Net()):
            checkpoint.load(net, tmp_path)
            assert net.head.weight is net.embed.weight
            assert_equal(net, seeded())

    def test_a_block_used_twice(self, tmp_path: Path) -> None:
        block = Block(3)
        checkpoint.save(nn.ModuleList([block, block]), tmp_path)
        assert "1.norm.weight" not in checkpoint.read(tmp_path)
        with checkpoint.on_meta():
            again = Block(3)
        twice = nn.ModuleList([again, again])
        checkpoint.load(twice, tmp_path)
        assert_equal(twice, nn.ModuleList([block, block]))

    def test_both_names_of_a_tied_parameter(self, tmp_path: Path) -> None:
        state = {name: tensor.clone() for name, tensor in seeded().state_dict().items()}
        save_file(state, tmp_path / "model.safetensors")
        net = on_meta()
        checkpoint.load(net, tmp_path)
        assert net.head.weight is net.embed.weight
        state["head.weight"][0, 0] += 1
        save_file(state, tmp_path / "model.safetensors")
        with pytest.raises(CheckpointError, match=r"weight differs from what Net ties it to"):
            checkpoint.load(on_meta(), tmp_path)

    def test_real_modules_keep_their_parameter_objects(self, tmp_path: Path) -> None:
        checkpoint.save(seeded(), tmp_path)
        net = Net()
        optimizer = torch.optim.SGD(net.parameters(), lr=1.0)
        checkpoint.load(net, tmp_path)
        net.blocks[0].norm.weight.grad = torch.ones(8)  # type: ignore[union-attr]
        optimizer.step()
        before = seeded().blocks[0].norm.weight.detach()  # type: ignore[union-attr, operator]
        assert torch.equal(net.blocks[0].norm.weight, before - 1)  # type: ignore[union-attr, arg-type]
        assert torch.equal(checkpoint.read(tmp_path)["blocks.0.norm.weight"], before)  # the file is as it was

    @pytest.mark.parametrize("build", [on_meta, Net])
    def test_dtype_of_floating_tensors(self, tmp_path: Path, build: Any) -> None:
        checkpoint.save(seeded(), tmp_path, dtype=torch.bfloat16)
        assert checkpoint.read(tmp_path)["embed.weight"].dtype == torch.bfloat16
        assert checkpoint.read(tmp_path)["counter"].dtype == torch.int64
        net = build()
        checkpoint.load(net, tmp_path, dtype=torch.float64)
        assert {p.dtype for p in net.parameters()} == {torch.float64}
        assert net.scale.dtype == torch.float64
        assert net.counter.dtype == torch.int64
        assert torch.equal(net.embed.weight, seeded().embed.weight.bfloat16().double())
        checkpoint.load(net, tmp_path)
        assert net.embed.weight.dtype == torch.bfloat16

    def test_frozen_parameters_stay_frozen(self, tmp_path: Path) -> None:
        checkpoint.save(seeded(), tmp_path)
        net = on_meta()
        net.embed.weight.requires_grad_(False)
        checkpoint.load(net, tmp_path)
        assert not net.embed.weight.requires_grad
        assert net.blocks[0].query.weight.requires_grad  # type: ignore[union-attr]

    def test_one_error_lists_everything_and_changes_nothing(self, tmp_path: Path) -> None:
        state = dict(seeded().state_dict())
        del state["blocks.0.query.weight"], state["blocks.1.norm.bias"], state["head.weight"]
        state["extra.weight"] = torch.zeros(2)
        state["blocks.0.norm.weight"] = torch.zeros(7)
        state["scale"] = torch.zeros(8, dtype=torch.int32)
        checkpoint.save(state, tmp_path)
        net = seeded(5)
        with pytest.raises(CheckpointError, match="does not fit Net: 2 missing") as caught:
            checkpoint.load(net, tmp_path)
        assert caught.value.missing == ("blocks.0.query.weight", "blocks.1.norm.bias")
        assert caught.value.unexpected == ("extra.weight",)
        assert set(caught.value.misshaped) == {
            "blocks.0.norm.weight: file has [7], model needs [8]",
            "scale: file has int32, model needs float32",
        }
        assert len(str(caught.value)) < 400
        assert_equal(net, seeded(5))

    def test_published_name_without_rule_is_unexpected(self, tmp_path: Path) -> None:
        checkpoint.save(seeded(), tmp_path, rules=RULES)
        tensors = dict(checkpoint.read(tmp_path)) | {
            "decoder.new": torch.zeros(1),
            "decoder.version": torch.zeros(1),
        }
        checkpoint.save({name: tensor.clone() for name, tensor in tensors.items()}, tmp_path / "more")
        with pytest.raises(CheckpointError) as caught:
            checkpoint.load(on_meta(), tmp_path / "more", rules=RULES)
        assert caught.value.unexpected == ("decoder.new",)
        assert not caught.value.missing

    def test_two_names_for_one_tensor(self, tmp_path: Path) -> None:
        checkpoint.save({"a": torch.ones(1), "b": torch.zeros(1)}, tmp_path)
        with pytest.raises(CheckpointError, match="a and b both stand for scale"):
            checkpoint.load(Net(), tmp_path, rules=RuleTable([Rule("a", "scale"), Rule("b", "scale")]))

    def test_optional_tensors(self, tmp_path: Path) -> None:
        state = {name: t for name, t in seeded().state_dict().items() if not name.startswith("blocks.1.")}
        checkpoint.save({**state, "aux.weight": torch.zeros(1)}, tmp_path)
        net = seeded(5)
        checkpoint.load(net, tmp_path, optional=["blocks.1.{rest*}", "aux.weight"])
        assert torch.equal(net.embed.weight, seeded().embed.weight)
        assert torch.equal(net.blocks[1].query.weight, seeded(5).blocks[1].query.weight)  # type: ignore
        with pytest.raises(CheckpointError, match="4 missing"):  # a tensor on meta has no value to keep
            checkpoint.load(on_meta(), tmp_path, optional=["blocks.1.{rest*}", "aux.weight"])

    def test_buffers_that_no_checkpoint_holds_must_be_real(self, tmp_path: Path) -> None:
        net = on_meta()
        net.register_buffer("table", torch.zeros(2, device="meta"), persistent=False)
        checkpoint.save(seeded(), tmp_path)
        with pytest.raises(RuntimeError, match="table"):
            checkpoint.load(net, tmp_path)
        assert net.embed.weight.is_meta


# One process imports PyTorch; each case is a fork of it, whose peak starts at what it inherits.
MEASURE = """
import os, resource, sys, torch
from torch import nn
from multiway_core import checkpoint

def load(path, dtype):
    with checkpoint.on_meta():
        net = nn.Sequential(*(nn.Linear(1024, 1024, bias=False) for _ in range(50)))
        nn.init.trunc_normal_(nn.Embedding(3, 4).weight)
        nn.Parameter(torch.randn(3, 4))
    assert "sympy" not in sys.modules, "building on meta is to be cheap"
    if path != "-":
        checkpoint.load(net, path, dtype=getattr(torch, dtype))
        assert all(float(p.sum()) == 2.0**20 for p in net.parameters())

load("-", "float32")
for case in sys.argv[1:]:
    if os.fork() == 0:
        load(*case.split(":"))
        print(case, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, flush=True)
        os._exit(0)
    assert os.wait()[1] == 0
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in KiB on Linux")
def test_peak_memory_of_loading_and_using_everything(tmp_path: Path) -> None:
    tensors = {f"{i}.weight": torch.ones(1024, 1024) for i in range(50)}
    checkpoint.save(tensors, tmp_path / "single")
    torch.save(tensors, tmp_path / "legacy.pt")
    size = (tmp_path / "single" / "model.safetensors").stat().st_size
    del tensors
    cases = {"-:": 0.0, "single:float32": 1.2, "legacy.pt:float32": 1.2}
    cases["single:bfloat16"] = 0.7  # half the file is kept, and what was converted is let go
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", MEASURE, *cases]
    result = subprocess.run(
        command, capture_output=True, text=True, check=True, env=environment, cwd=tmp_path
    )
    peaks = {case: 1024 * int(kib) for case, kib in (line.split() for line in result.stdout.splitlines())}
    for case, limit in cases.items():
        used = (peaks[case] - peaks["-:"]) / size
        print(f"{case} {used:.2f}")
        assert used <= limit, (case, used)


class Malicious:
    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> Any:
        return (os.system, (f"touch {self.witness}",))


class TestLegacy:
    def test_flat_file(self, tmp_path: Path) -> None:
        torch.save(seeded().state_dict(), tmp_path / "model.pt")
        net = on_meta()
        checkpoint.load(net, tmp_path / "model.pt")
        assert_equal(net, seeded())

    def test_old_serialization(self, tmp_path: Path) -> None:
        torch.save(seeded().state_dict(), tmp_path / "model.pt", _use_new_zipfile_serialization=False)
        net = on_meta()
        checkpoint.load(net, tmp_path / "model.pt")
        assert_equal(net, seeded())

    def test_fairseq_layout(self, tmp_path: Path) -> None:
        state = OrderedDict(seeded().state_dict())
        content = {
            "args": argparse.Namespace(arch="net", layers=[1, 2], lr=None),
            "cfg": None,
            "model": state,
            "last_optimizer_state": {"state": {0: torch.zeros(2)}, "param_groups": [{"lr": 0.1}]},
            "extra_state": {"epoch": 3},
        }
        torch.save(content, tmp_path / "ckpt.pt")
        for key in (None, "model"):
            net = on_meta()
            checkpoint.load(net, tmp_path / "ckpt.pt", key=key)
            assert_equal(net, seeded())
        assert set(checkpoint.read(tmp_path)) == set(state)  # the only checkpoint in its folder
        with pytest.raises(
            CheckpointError, match=r"nothing under the key ema\.model; found the keys args, cfg"
        ):
            checkpoint.read(tmp_path / "ckpt.pt", key="ema.model")
        with pytest.raises(CheckpointError, match="expected a dictionary of tensors; found the keys epoch"):
            checkpoint.read(tmp_path / "ckpt.pt", key="extra_state")

    def test_compressed_records_are_refused(self, tmp_path: Path) -> None:
        good_path, bomb_path = tmp_path / "good.pt", tmp_path / "bomb.pt"
        torch.save({"a": torch.zeros(1)}, good_path)
        with zipfile.ZipFile(good_path) as good, zipfile.ZipFile(bomb_path, "w") as bomb:
            for entry in good.infolist():
                bomb.writestr(entry.filename, good.read(entry), compress_type=zipfile.ZIP_DEFLATED)
        with pytest.raises(CheckpointError, match=r"refused: good/data\.pkl in it is compressed"):
            checkpoint.read(bomb_path)

    def test_keys_in_order_and_dotted(self, tmp_path: Path) -> None:
        content = {"epoch": 1, "state_dict": {"a": torch.ones(1)}, "ema": {"model": {"b": torch.ones(1)}}}
        torch.save(content, tmp_path / "x.ckpt")
        assert list(checkpoint.read(tmp_path / "x.ckpt")) == ["a"]
        assert list(checkpoint.read(tmp_path / "x.ckpt", key="ema.model")) == ["b"]

    def test_sharded(self, tmp_path: Path) -> None:
        torch.save({"a": torch.ones(1)}, tmp_path / "one.bin")
        torch.save({"b": torch.zeros(1)}, tmp_path / "two.bin")
        index = {"weight_map": {"a": "one.bin", "b": "two.bin"}}
        (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps(index))
        assert dict(checkpoint.read(tmp_path)) == {"a": torch.ones(1), "b": torch.zeros(1)}

    @pytest.mark.parametrize("name", ["model.pt", "model.bin", "model.safetensors"])
    @pytest.mark.parametrize("writer", ["torch", "torch-old", "pickle"])
    def test_pickles_are_refused_unexecuted(self, tmp_path: Path, name: str, writer: str) -> None:
        witness = tmp_path / "executed"
        content = {"weight": torch.ones(2), "payload": Malicious(witness)}
        path = tmp_path / name
        if writer == "pickle":
            path.write_bytes(pickle.dumps(content))
        else:
            torch.save(content, path, _use_new_zipfile_serialization=writer == "torch")
        with pytest.raises(CheckpointError, match=r"model\.") as caught:
            checkpoint.read(path)
        assert not witness.exists()
        assert "weights_only" not in str(caught.value)  # no advice to trust it
        if name != "model.safetensors" and writer != "pickle":
            assert "refused: the pickle asks for posix.system" in str(caught.value)
        pickle.loads(pickle.dumps(content))  # the payload is a real one
        assert witness.exists()


class TestBadFiles:
    def write(self, tmp_path: Path, content: bytes, name: str = "model.safetensors") -> Path:
        (tmp_path / name).write_bytes(content)
        return tmp_path / name

    def good(self, tmp_path: Path) -> bytes:
        save_file({"a": torch.arange(100.0), "b": torch.ones(3, 3)}, tmp_path / "good")
        return (tmp_path / "good").read_bytes()

    def test_truncated_anywhere(self, tmp_path: Path) -> None:
        content = self.good(tmp_path)
        for length in (0, 1, 7, 8, 9, 50, 100, len(content) - 1):
            with pytest.raises(CheckpointError, match="not a safetensors file, or a damaged one"):
                checkpoint.read(self.write(tmp_path, content[:length]))
        with pytest.raises(CheckpointError):
            checkpoint.read(self.write(tmp_path, content + b"more"))

    @pytest.mark.parametrize("length", [2**63 - 1, 2**64 - 1, 2**40, 200_000_000, 0])
    def test_wrong_header_length(self, tmp_path: Path, length: int) -> None:
        content = length.to_bytes(8, "little") + self.good(tmp_path)[8:]
        with pytest.raises(CheckpointError, match="damaged"):
            checkpoint.read(self.write(tmp_path, content))

    @pytest.mark.parametrize(
        "entry",
        [
            {"dtype": "F32", "shape": [4], "data_offsets": [0, 8]},
            {"dtype": "F32", "shape": [2], "data_offsets": [8, 16]},
            {"dtype": "F32", "shape": [2], "data_offsets": [0, 2**62]},
            {"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 8]},
            {"dtype": "F32", "shape": [-2], "data_offsets": [0, 8]},
            {"dtype": "PICKLE", "shape": [2], "data_offsets": [0, 8]},
            {"dtype": "F32"},
            [],
        ],
    )
    def test_lying_header(self, tmp_path: Path, entry: Any) -> None:
        header = json.dumps({"a": entry}).encode()
        with pytest.raises(CheckpointError, match="damaged"):
            checkpoint.read(self.write(tmp_path, len(header).to_bytes(8, "little") + header + bytes(8)))

    @given(content=st.binary(max_size=300), name=st.sampled_from(["r.safetensors", "r.pt", "r.index.json"]))
    @settings(max_examples=200, deadline=None)
    def test_random_bytes(self, tmp_path_factory: pytest.TempPathFactory, content: bytes, name: str) -> None:
        path = self.write(tmp_path_factory.getbasetemp(), content, name)
        with pytest.raises(CheckpointError, match=r"r\."):
            checkpoint.read(path)

    @given(
        position=st.integers(0, 10**6),
        value=st.integers(0, 255),
        name=st.sampled_from(["f.safetensors", "f.pt"]),
    )
    @settings(max_examples=150, deadline=None)
    def test_one_flipped_byte(
        self, tmp_path_factory: pytest.TempPathFactory, position: int, value: int, name: str
    ) -> None:
        folder = tmp_path_factory.getbasetemp()
        if name.endswith(".pt"):
            torch.save({"a": torch.arange(4.0)}, folder / "good")
            content = bytearray((folder / "good").read_bytes())
        else:
            content = bytearray(self.good(folder))
        content[position % len(content)] = value
        path = self.write(folder, bytes(content), name)
        try:
            for tensor in checkpoint.read(path).values():
                assert tensor.clone().shape == tensor.shape  # no mapped page is beyond the file's end
        except CheckpointError:
            pass

    @pytest.mark.parametrize(
        ("shard", "message"),
        [
            ("../outside.safetensors", "not a plain file name"),
            ("sub/inside.safetensors", "not a plain file name"),
            ("/etc/passwd", "not a plain file name"),
            ("..", "not a plain file name"),
            ("a\\b.safetensors", "not a plain file name"),
            (3, "not a plain file name"),
            ("config.json", "not a checkpoint by its name"),
            ("gone.safetensors", "is missing"),
            ("link.safetensors", "a link out of its folder"),
        ],
    )
    def test_shard_index_stays_in_its_folder(self, tmp_path: Path, shard: Any, message: str) -> None:
        folder = tmp_path / "model"
        (folder / "sub").mkdir(parents=True)
        for path in (tmp_path / "outside.safetensors", folder / "sub" / "inside.safetensors"):
            save_file({"a": torch.ones(1)}, path)
        (folder / "link.safetensors").symlink_to(tmp_path / "outside.safetensors")
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": shard}}))
        with pytest.raises(CheckpointError, match=message):
            checkpoint.read(folder)

    def test_links_of_the_hub_cache_are_followed(self, tmp_path: Path) -> None:
        snapshot = tmp_path / "models--a--b" / "snapshots" / "f00d"
        blobs = tmp_path / "models--a--b" / "blobs"
        snapshot.mkdir(parents=True)
        blobs.mkdir()
        save_file({"a": torch.ones(1)}, blobs / "abc")
        (snapshot / "x.safetensors").symlink_to("../../blobs/abc")
        (snapshot / "model.safetensors.index.json").write_text('{"weight_map": {"a": "x.safetensors"}}')
        assert list(checkpoint.read(snapshot)) == ["a"]

    def test_index_and_shards_disagree(self, tmp_path: Path) -> None:
        save_file({"a": torch.ones(1)}, tmp_path / "x.safetensors")
        index = {"weight_map": {"a": "x.safetensors", "b": "x.safetensors"}}
        (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
        with pytest.raises(CheckpointError, match=r"1 missing \(b in x.safetensors\)"):
            checkpoint.read(tmp_path)

    @pytest.mark.parametrize("content", ["", "[]", "{}", '{"weight_map": {}}', '{"weight_map": ["a"]}'])
    def test_bad_index(self, tmp_path: Path, content: str) -> None:
        (tmp_path / "model.safetensors.index.json").write_text(content)
        with pytest.raises(CheckpointError, match=r"index\.json"):
            checkpoint.read(tmp_path)

    def test_what_is_no_checkpoint(self, tmp_path: Path) -> None:
        with pytest.raises(CheckpointError, match="no such file or folder"):
            checkpoint.read(tmp_path / "none")
        with pytest.raises(CheckpointError, match=r"expected a checkpoint such as .* here, found none"):
            checkpoint.read(tmp_path)
        with pytest.raises(CheckpointError, match="not a checkpoint by its name"):
            checkpoint.read(self.write(tmp_path, b"", "weights.npz"))
        os.mkfifo(tmp_path / "model.safetensors")
        with pytest.raises(CheckpointError, match="not a regular file"):
            checkpoint.read(tmp_path / "model.safetensors")

    def test_several_files_in_a_folder(self, tmp_path: Path) -> None:
        self.write(tmp_path, b"", "a.pt")
        self.write(tmp_path, b"", "b.safetensors")
        with pytest.raises(CheckpointError, match=r"found several \(a\.pt, b\.safetensors\): name one"):
            checkpoint.read(tmp_path)
