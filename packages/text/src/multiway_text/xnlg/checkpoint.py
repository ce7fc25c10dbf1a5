"""Model folders, and the file that the authors released.

A folder that we write holds ``xnlg.json``, safetensors by the published names behind ``encoder.`` and ``decoder.``, the
tokenizer, and ``LANG.vocab``: the pieces that stand in a language's corpus, one a line.

A released file (``*.pth``) is a dictionary with ``encoder``, ``decoder``, ``enc_params``, ``dec_params`` and the
vocabulary; the fastBPE codes lie beside it, and perhaps ``LANG.vocab``. It is read without building any object but
tensors and plain containers.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from multiway_core import checkpoint, files, hub
from multiway_core.checkpoint import Rule, RuleTable
from multiway_core.errors import CheckpointError
from multiway_core.tensor_files import read_pickled
from multiway_core.tokenization import TextTokenizer
from multiway_core.tokenization.folder import MERGES_FILE, VOCAB_FILE, fast_bpe
from torch import Tensor

from multiway_text.xnlg.config import EOS, FILE, SPECIAL, UNK, XnlgConfig
from multiway_text.xnlg.model import Xnlg

_LAYER = "{side}.stack.layers.{i}."
RULES = RuleTable(
    [
        Rule("{side}.embeddings.weight", "{side}.token_embedding.weight"),
        Rule("{side}.position_embeddings.weight", "{side}.position_embedding.weight"),
        Rule("{side}.lang_embeddings.weight", "{side}.language_embedding.weight"),
        Rule("{side}.layer_norm_emb.{x}", "{side}.embedding_norm.{x}"),
        *(
            Rule(f"{{side}}.{theirs}.{{i}}.{part}_lin.{{x}}", f"{_LAYER}{ours}.{name}.{{x}}")
            for theirs, ours in (("attentions", "attention"), ("encoder_attn", "cross_attention"))
            for part, name in (("q", "query"), ("k", "key"), ("v", "value"), ("out", "output"))
        ),
        Rule("{side}.layer_norm1.{i}.{x}", _LAYER + "attention_norm.{x}"),
        Rule("{side}.layer_norm15.{i}.{x}", _LAYER + "cross_attention_norm.{x}"),
        Rule("{side}.ffns.{i}.lin1.{x}", _LAYER + "feedforward.up.{x}"),
        Rule("{side}.ffns.{i}.lin2.{x}", _LAYER + "feedforward.down.{x}"),
        Rule("{side}.layer_norm2.{i}.{x}", _LAYER + "feedforward_norm.{x}"),
        Rule("{side}.pred_layer.proj.bias", "{side}.output_bias"),
    ]
)
_TIED = ".pred_layer.proj.weight"
_PARTS = ("encoder", "decoder", "enc_params", "dec_params", "dico_id2word")
_CONVERT = (
    "it holds more than tensors and plain dictionaries. Where you trust it, write it again: "
    'd = torch.load("FILE", weights_only=False, map_location="cpu"); '
    f'torch.save({{k: dict(d[k]) for k in {_PARTS}}}, "plain.pth")'
)


class Loaded(NamedTuple):
    """A model with what it needs beside. ``vocabularies``: by language the ids that its targets may have, (N,) int64;
    a language without has all."""

    model: Xnlg
    tokenizer: TextTokenizer
    vocabularies: dict[str, Tensor]


def load(
    name: str | Path, *, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> Loaded:
    """The model of a folder that ``train`` wrote or of one with a released file, in evaluation mode.

    Raises ModelNotFoundError, CheckpointError, ConfigError.
    """
    folder = hub.resolve(str(name))
    if (folder / FILE).is_file():
        config, tensors = XnlgConfig.of_folder(folder), dict(checkpoint.read(folder))
        tokenizer, source = TextTokenizer.from_folder(folder), folder
    else:
        source = _released_file(folder)
        content = _content(source)
        tensors = _tensors(content, source)
        for name in ("lang2id", "n_heads"):
            if content["enc_params"].get(name) != content["dec_params"].get(name):
                raise CheckpointError(
                    f"{source}: encoder and decoder differ in {name}, which is not supported"
                )
        config = _config(content["enc_params"], tensors, source)
        tokenizer = _tokenizer(content, source)
    with checkpoint.on_meta():
        model = Xnlg(config)
    if "encoder.pred_layer.proj.bias" not in tensors:  # XNLG's stage 2 leaves the encoder's output layer out
        tensors["encoder.pred_layer.proj.bias"] = torch.zeros(config.vocab_size)
    checkpoint.load(model, source, rules=RULES, dtype=dtype, device=device, tensors=tensors)
    vocabularies = {
        language: _read_vocabulary(folder / f"{language}.vocab", tokenizer, config.vocab_size)
        for language in config.languages
        if (folder / f"{language}.vocab").is_file()
    }
    return Loaded(model.to(device).eval(), tokenizer, vocabularies)


def is_xnlg(folder: Path) -> bool:
    """Whether a model folder holds XNLG, ours or the released layout."""
    return (folder / FILE).is_file() or (any(folder.glob("*.pth")) and any(folder.glob("codes*")))


def save(loaded: Loaded, folder: Path, *, dtype: torch.dtype | None = torch.bfloat16) -> None:
    """Write a model folder. Raises OutputError."""
    model, tokenizer, vocabularies = loaded
    checkpoint.save(model, folder, rules=RULES, dtype=dtype)
    _save_tokenizer(tokenizer, folder)
    for language, ids in vocabularies.items():
        names = (_published_piece(tokenizer, index) for index in ids.tolist())
        files.write_text(folder / f"{language}.vocab", "".join(f"{name}\n" for name in names))
    model.config.save(folder)


def _save_tokenizer(tokenizer: TextTokenizer, folder: Path) -> None:
    if tokenizer.kind != "fastBPE":
        tokenizer.save(folder)
        return
    # The hub's layout: tokenizer.json could not tell what the merges make but the vocabulary lacks.
    content = json.loads(tokenizer.library.to_str())["model"]
    vocab = {piece: index for piece, index in content["vocab"].items() if index < tokenizer.vocab_size}
    merges = (pair if isinstance(pair, str) else " ".join(pair) for pair in content["merges"])
    files.write_text(folder / VOCAB_FILE, json.dumps(vocab, ensure_ascii=False))
    files.write_text(folder / MERGES_FILE, "".join(f"{pair}\n" for pair in merges))


def _released_file(folder: Path) -> Path:
    found = sorted(folder.glob("*.pth"))
    if len(found) != 1:
        raise CheckpointError(f"{folder}: expected {FILE}, or one *.pth with fastBPE codes* beside it")
    return found[0]


def _content(path: Path) -> Mapping[str, Any]:
    try:
        content = read_pickled(path)
    except CheckpointError as error:
        if "the pickle asks for" in str(error):
            raise CheckpointError(f"{path}: refused: {_CONVERT}") from error
        raise
    missing = [part for part in _PARTS if not isinstance(content.get(part), Mapping)]
    if missing:
        raise CheckpointError(f"{path}: not an XNLG checkpoint: no dictionary {', '.join(missing)} in it")
    return content


def _tensors(content: Mapping[str, Any], path: Path) -> dict[str, Tensor]:
    found = {
        f"{side}.{name.removeprefix('module.')}": tensor
        for side in ("encoder", "decoder")
        for name, tensor in content[side].items()
    }
    for side in ("encoder", "decoder"):
        output = found.pop(side + _TIED, None)
        if output is not None and not torch.equal(output, found[f"{side}.embeddings.weight"]):
            raise CheckpointError(
                f"{path}: {side}{_TIED} is not tied to the embeddings, which is not supported"
            )
    return found


def _config(params: Mapping[str, Any], tensors: Mapping[str, Tensor], path: Path) -> XnlgConfig:
    try:
        languages = sorted(params["lang2id"], key=params["lang2id"].__getitem__)
        vocab_size, width = tensors["encoder.embeddings.weight"].shape
        positions = len(tensors["encoder.position_embeddings.weight"])
        if not params.get("gelu_activation", True):
            raise CheckpointError(f"{path}: the activation is not gelu, which is not supported")
        return XnlgConfig(
            tuple(languages),
            vocab_size,
            width,
            _layers(tensors, "encoder"),
            _layers(tensors, "decoder"),
            int(params["n_heads"]),
            len(tensors["encoder.ffns.0.lin1.bias"]),
            positions,
            max_source=min(120, positions),
            max_target=min(80, positions),
        )
    except KeyError as error:
        raise CheckpointError(f"{path}: not an XNLG checkpoint: no {error.args[0]} in it") from error


def _layers(tensors: Mapping[str, Tensor], side: str) -> int:
    return sum(name.startswith(f"{side}.layer_norm1.") and name.endswith(".weight") for name in tensors)


def _tokenizer(content: Mapping[str, Any], path: Path) -> TextTokenizer:
    codes = sorted(path.parent.glob("codes*"))
    if len(codes) != 1:
        raise CheckpointError(f"{path.parent}: expected one file of fastBPE codes* beside {path.name}")
    vocab = {_piece(str(word)): int(index) for index, word in content["dico_id2word"].items()}
    return TextTokenizer(fast_bpe(vocab, codes[0]))


def _piece(word: str) -> str:
    """fastBPE's ``@@`` where a word goes on, as ``</w>`` where it ends."""
    return word if word in SPECIAL else word[:-2] if word.endswith("@@") else f"{word}</w>"


def _published_piece(tokenizer: TextTokenizer, index: int) -> str:
    name = tokenizer.engine.id_to_token(index) or ""
    if tokenizer.kind != "fastBPE" or name in SPECIAL:
        return name
    return name.removesuffix("</w>") if name.endswith("</w>") else f"{name}@@"


def _read_vocabulary(path: Path, tokenizer: TextTokenizer, size: int) -> Tensor:
    """The ids of the pieces in a file, ``</s>`` and ``<unk>`` among them (XNLG's ``vocab_mask``)."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path}: cannot be read as UTF-8 text") from error
    words = [line.split("\t")[0].split(" ")[0] for line in lines]
    as_piece: Callable[[str], str] = _piece if tokenizer.kind == "fastBPE" else str
    known = [tokenizer.engine.token_to_id(as_piece(word)) for word in words]
    ids = sorted({EOS, UNK, *(index for index in known if index is not None and index < size)})
    if len(ids) == 2:
        raise CheckpointError(f"{path}: none of its {len(words)} pieces is in the vocabulary")
    return torch.tensor(ids)
