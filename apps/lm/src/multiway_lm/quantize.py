"""The ``quantize`` command: a checkpoint to packed ternary weights or to GGUF, with what it costs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from multiway_core import hub
from multiway_core.errors import InputError

from multiway_lm.app import APP

COST = (
    "rounding a model to ternary weights after its training destroys it: expect perplexities in the thousands and "
    "no sensible answers (measure it with --check FILE); for a ternary model that works, train one (train --arch "
    "bitnet) or distil one (distill)"
)
MAX_CHECKED_CHARACTERS = 100_000  # characters of the texts that --check compares on


def quantize(
    name: str, output: Path, *, format: str, kind: str | None, check: Sequence[str], field: str
) -> dict[str, Any]:
    """Convert, and with ``check`` compare perplexities before and after. Returns sizes, and what was measured.

    Raises InputError for what has no such form, CheckpointError, OutputError.
    """
    import torch
    from multiway_text import gguf_tokenizer, systems
    from multiway_text.language_model import LanguageModel

    system, path, file = systems.find(hub.resolve(name))
    tokenizer = systems.tokenizer_of(path)
    texts = _texts(check, field)
    if format == "packed" and kind is not None:
        raise InputError("--type belongs to --format gguf")
    if output.exists() and (format == "packed") != output.is_dir():
        raise InputError(f"{output}: {'a folder' if format == 'packed' else 'a file'} is to be written there")
    network = system.load(path, dtype=torch.float32, device="cpu")
    result: dict[str, Any] = {"model": name, "output": str(output), "bytes_before": _size(path)}
    if texts:
        result["before"] = _measure(LanguageModel(network, tokenizer, name=name, pads=system.pads), texts)

    if system.model_type == "bitnet":
        from multiway_text.decoders.bitnet import checkpoint

        if format == "packed":
            checkpoint.save(network, output)
        elif kind not in (None, "i2_s"):
            raise InputError(f"a BitNet model is written as i2_s, not {kind}")
        else:
            _refused(checkpoint.save_gguf, network, output, metadata=gguf_tokenizer.metadata(tokenizer))
    elif system.model_type == "llama":
        from multiway_text.decoders.llama import checkpoint as llama_checkpoint
        from multiway_text.decoders.llama import gguf_export, ternary

        if format == "packed":
            APP.note(COST)
            llama_checkpoint.save(ternary.quantize(network), output, dtype=torch.bfloat16)
        else:
            gguf_export.save(network, output, kind or "q8_0", metadata=_tokenizer_metadata(file, tokenizer))
    else:
        raise InputError(f"a {system.model_type} model has no quantised form here; bitnet and llama have")
    if format == "packed":
        tokenizer.save(output)
    result["bytes_after"] = _size(output)
    if texts:
        again = LanguageModel.from_pretrained(output)
        result["after"] = _measure(again, texts)
    return result


def _tokenizer_metadata(file: Any, tokenizer: Any) -> dict[str, Any]:
    """The tokenizer's metadata: that of the GGUF file it came from, as it is, else made from it."""
    from multiway_text import gguf_tokenizer

    if file is None:
        return gguf_tokenizer.metadata(tokenizer)
    return {key: value for key, value in file.metadata.items() if key.startswith("tokenizer.")}


def _refused(write: Any, *arguments: Any, **more: Any) -> None:
    try:
        write(*arguments, **more)
    except ValueError as error:  # sizes that the format cannot hold
        raise InputError(f"this model has no such form: {error}") from error


def _texts(paths: Sequence[str], field: str) -> list[str]:
    if not paths:
        return []
    from multiway_text.documents import TextFiles

    found, left = [], MAX_CHECKED_CHARACTERS
    for document in TextFiles(paths, field=field):
        found.append(document.text[:left])
        left -= len(found[-1])
        if left <= 0:
            break
    if not found:
        raise InputError("--check: there is no text in the files")
    return found


def _measure(model: Any, texts: list[str]) -> dict[str, float]:
    from multiway_text.scoring import perplexity

    scores = [model.score(text) for text in texts]
    total, count = sum(s.log_prob for s in scores), sum(s.num_scored for s in scores)
    return {"perplexity": perplexity(total, count), "tokens": count}


def _size(path: Path) -> int:
    """Bytes of the weights."""
    if path.is_file():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.glob("*.safetensors"))


def as_lines(result: dict[str, Any]) -> str:
    """For people."""
    lines = [f"{result['output']}"]
    before, after = result["bytes_before"], result["bytes_after"]
    lines.append(f"weights: {before / 2**20:.1f} MB -> {after / 2**20:.1f} MB")
    if "after" in result:
        old, new = result["before"]["perplexity"], result["after"]["perplexity"]
        lines.append(f"perplexity: {old:,.2f} -> {new:,.2f} ({result['before']['tokens']} tokens)")
    return "\n".join(lines) + "\n"
