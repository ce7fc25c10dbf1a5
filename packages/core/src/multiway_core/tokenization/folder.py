"""Tokenizers from the files of a model folder, and back."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from multiway_core import config, files
from multiway_core.errors import CheckpointError, ConfigError
from multiway_core.tokenization.engines import TOKENIZER_FILE, Engine, LibraryEngine, SentencePieceEngine
from multiway_core.tokenization.tokenizer import TextTokenizer

SETTINGS_FILE, GENERATION_FILE = "tokenizer_config.json", "generation_config.json"
VOCAB_FILE, MERGES_FILE, WORDPIECE_FILE = "vocab.json", "merges.txt", "vocab.txt"
_FAIRSEQ_NAMES = ("sentencepiece.bpe.model", "beit3.spm")
END_TOKENS = ("<|im_end|>", "<|eot_id|>", "<|end|>", "<|endoftext|>", "<|end_of_text|>", "</s>")
_ROLES = {
    "pad_token": ("[PAD]", "<pad>"),
    "unk_token": ("[UNK]", "<unk>"),
    "cls_token": ("[CLS]",),
    "sep_token": ("[SEP]",),
    "mask_token": ("[MASK]", "<mask>"),
}
"""What other programs ask for by role (they do not pad without a ``pad_token``), by the names that it has."""
_XLM_SPECIAL = ("<s>", "</s>", "<pad>", "<unk>", *(f"<special{index}>" for index in range(10)))
_BRACKETED = re.compile(r"\[[A-Z][A-Z0-9_]*\]")
_WORD_END = "</w>"


def read(path: Path, *, lowercase: bool | None, fairseq: bool | None) -> TextTokenizer:
    """See :meth:`TextTokenizer.from_folder`."""
    folder = path if path.is_dir() else path.parent
    if not path.exists():
        raise CheckpointError(f"{folder}: no {path.name}" if folder.is_dir() else f"{path}: no such folder")
    file = _main_file(folder) if path.is_dir() else path
    settings = _optional(folder / SETTINGS_FILE)
    engine: Engine
    if file.suffix in (".model", ".spm"):
        engine = SentencePieceEngine(
            file, fairseq=file.name in _FAIRSEQ_NAMES if fairseq is None else fairseq
        )
    elif file.name == WORDPIECE_FILE:
        engine = LibraryEngine(word_piece(file, lowercase, settings))
    elif file.name in (VOCAB_FILE, MERGES_FILE):
        engine = _merges(folder / VOCAB_FILE, folder / MERGES_FILE, settings)
    elif file.name.startswith("codes"):
        engine = fast_bpe(_fast_bpe_vocabulary(folder), file)
    else:
        engine = LibraryEngine(load_json(file))
    return _with_settings(engine, folder, settings)


def load_json(path: Path, *, added_tokens: bool = True) -> Tokenizer:
    """The library's object of a ``tokenizer.json``; ``added_tokens=False`` leaves out all tokens beside the vocabulary.

    Raises :class:`CheckpointError`.
    """
    try:
        if added_tokens:
            return Tokenizer.from_file(str(path))
        content = json.loads(path.read_text(encoding="utf-8"))
        content.update(added_tokens=[], post_processor=None)
        return Tokenizer.from_str(json.dumps(content))
    except Exception as error:  # the library raises bare exceptions
        raise CheckpointError(f"{path}: not a tokenizer: {error}") from error


def word_piece(
    path: Path, lowercase: bool | None = None, settings: Mapping[str, Any] | None = None
) -> Tokenizer:
    """BERT's tokenizer of a ``vocab.txt``: one piece a line, the line's number is the id.

    Case: ``lowercase``, else ``do_lower_case`` of ``settings``, else text is lower-cased unless the vocabulary has
    upper-case words. Names in brackets and capitals, such as ``[CLS]`` and UniLM's ``[S2S_SOS]``, are special.
    """
    vocab = {token.rstrip("\r"): index for index, token in enumerate(_lines(path))}
    missing = [name for name in ("[UNK]", "[CLS]", "[SEP]") if name not in vocab]
    if missing:
        raise CheckpointError(f"{path}: not a WordPiece vocabulary: it has no {', '.join(missing)}")
    special = [token for token in vocab if _BRACKETED.fullmatch(token)]
    settings = settings or {}
    if lowercase is None:
        said = settings.get("do_lower_case")
        cased = any(token != token.lower() for token in vocab if token not in special)
        lowercase = said if isinstance(said, bool) else not cased
    tokenizer = Tokenizer(models.WordPiece(vocab=vocab, unk_token="[UNK]", max_input_chars_per_word=100))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", vocab["[SEP]"]), ("[CLS]", vocab["[CLS]"]))
    return tokenizer


def fast_bpe(vocab: Mapping[str, int], codes: Path) -> LibraryEngine:
    """XLM's tokenizer: words between spaces, merged by rank. The text is to be cut into words before (Moses).

    ``vocab``: pieces with ``</w>`` where a word ends. ``codes``: merges, ``first second`` and perhaps a count a line.
    What the merges make but the vocabulary lacks is ``<unk>``, as in `transformers`.
    """
    if "<unk>" not in vocab:
        raise CheckpointError(f"{codes.parent}: the vocabulary has no <unk>")
    merges = _pairs(codes)
    size = max(vocab.values()) + 1
    internal = dict(vocab)
    for first, second in merges:
        for symbol in (*_symbols(first), *_symbols(second), first, second, first + second):
            internal.setdefault(symbol, len(internal) + size - len(vocab))
    tokenizer = _library(codes, internal, merges, unk_token="<unk>", end_of_word_suffix=_WORD_END)
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.decoder = decoders.BPEDecoder(suffix=_WORD_END)
    special = [token for token in _XLM_SPECIAL if token in vocab]
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    if "<s>" in vocab and "</s>" in vocab:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A </s>",
            pair="<s> $A </s> $B:1 </s>:1",
            special_tokens=[("<s>", vocab["<s>"]), ("</s>", vocab["</s>"])],
        )
    return LibraryEngine(tokenizer, kind="fastBPE", num_ids=size, unknown=vocab["<unk>"])


def _main_file(folder: Path) -> Path:
    """The file that says how text is cut. Raises CheckpointError for none, and for several SentencePiece models."""
    if (folder / TOKENIZER_FILE).is_file():
        return folder / TOKENIZER_FILE
    found = sorted([*folder.glob("*.model"), *folder.glob("*.spm")])
    if len(found) > 1:
        raise CheckpointError(f"{folder}: several SentencePiece models ({', '.join(f.name for f in found)})")
    if found:
        return found[0]
    if (folder / VOCAB_FILE).is_file() and (folder / MERGES_FILE).is_file():
        return folder / VOCAB_FILE
    codes = sorted(path for path in folder.glob("codes*") if path.is_file())
    if codes and any(folder.glob("vocab*")):
        return codes[0]
    if (folder / WORDPIECE_FILE).is_file():
        return folder / WORDPIECE_FILE
    raise CheckpointError(
        f"{folder}: no {TOKENIZER_FILE}, and neither a SentencePiece *.model, {VOCAB_FILE} with {MERGES_FILE}, "
        f"fastBPE codes with vocab, nor {WORDPIECE_FILE}"
    )


def _merges(vocab_file: Path, merges_file: Path, settings: Mapping[str, Any]) -> LibraryEngine:
    """Byte-level BPE of GPT-2 or RoBERTa, or fastBPE in the hub's layout."""
    for path in (vocab_file, merges_file):
        if not path.is_file():
            raise CheckpointError(f"{path.parent}: no {path.name} beside the other vocabulary file")
    try:
        vocab = config.read_json(vocab_file)
    except ConfigError as error:
        raise CheckpointError(str(error)) from error
    if not vocab or not all(
        isinstance(v, int) and not isinstance(v, bool) and v >= 0 for v in vocab.values()
    ):
        raise CheckpointError(f"{vocab_file}: not a vocabulary: expected an id for every token")
    if "<|startoftext|>" in vocab:
        raise CheckpointError(f"{vocab_file.parent}: CLIP's vocabulary is read from {TOKENIZER_FILE} only")
    merges = _pairs(merges_file)
    if any(part.endswith(_WORD_END) for pair in merges for part in pair):
        return fast_bpe(vocab, merges_file)
    spaced = bool(settings.get("add_prefix_space", False))
    tokenizer = _library(merges_file, vocab, merges)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=spaced)
    tokenizer.decoder = decoders.ByteLevel()
    roberta = all(name in vocab for name in ("<s>", "</s>", "<mask>"))
    names = ("<s>", "<pad>", "</s>", "<unk>", "<mask>") if roberta else ("<|endoftext|>",)
    tokenizer.add_special_tokens(
        [AddedToken(name, special=True, normalized=False) for name in names if name in vocab]
    )
    if roberta:
        tokenizer.post_processor = processors.RobertaProcessing(
            ("</s>", vocab["</s>"]), ("<s>", vocab["<s>"]), add_prefix_space=spaced
        )
    else:
        tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    return LibraryEngine(tokenizer)


def _library(path: Path, vocab: dict[str, int], merges: list[tuple[str, str]], **more: Any) -> Tokenizer:
    try:
        return Tokenizer(models.BPE(vocab=vocab, merges=merges, **more))
    except Exception as error:  # the library raises bare exceptions
        raise CheckpointError(f"{path}: the merges do not fit the vocabulary: {error}") from error


def _lines(path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{path}: not UTF-8 text") from error
    return text.removesuffix("\n").split("\n")


def _pairs(path: Path) -> list[tuple[str, str]]:
    """The merges of a file, one a line, a count behind them left out."""
    merges = []
    for line in _lines(path):
        if line.strip() and not line.startswith("#version"):
            parts = line.split(" ")
            if len(parts) < 2:
                raise CheckpointError(f"{path}: not a merge of two pieces: {line!r}")
            merges.append((parts[0], parts[1]))
    return merges


def _symbols(piece: str) -> list[str]:
    """The characters of a piece, the last with the mark of a word's end if the piece has it."""
    if not piece.endswith(_WORD_END):
        return list(piece)
    letters = list(piece.removesuffix(_WORD_END))
    return [*letters[:-1], letters[-1] + _WORD_END] if letters else []


def _fast_bpe_vocabulary(folder: Path) -> dict[str, int]:
    """XLM's special tokens, then fastBPE's ``vocab*`` file: ``piece count`` a line, ``@@`` where a word goes on."""
    path = sorted(folder.glob("vocab*"))[0]
    vocab = {name: index for index, name in enumerate(_XLM_SPECIAL)}
    for number, line in enumerate(_lines(path), 1):
        piece, space, count = line.rpartition(" ")
        if not space or not count.isdecimal():
            raise CheckpointError(f"{path}: line {number}: expected a piece and its count")
        vocab.setdefault(piece.removesuffix("@@") if piece.endswith("@@") else piece + _WORD_END, len(vocab))
    return vocab


def _with_settings(engine: Engine, folder: Path, settings: Mapping[str, Any]) -> TextTokenizer:
    """Begin and end tokens and the chat format, from the files beside the vocabulary."""
    generation, sizes = _optional(folder / GENERATION_FILE), _optional(folder / "config.json")
    begin, end = _name(settings.get("bos_token")), _name(settings.get("eos_token"))
    ends = _ids(generation.get("eos_token_id")) or _ids(sizes.get("eos_token_id"))
    ends += _known(engine, [end])
    if not ends:
        ends = _known(engine, END_TOKENS)
    begin_id = engine.token_to_id(begin) if begin else None
    adds = settings.get("add_bos_token")
    if begin_id is not None and not (
        adds if isinstance(adds, bool) else engine.frame.prefix[:1] == (begin_id,)
    ):
        begin_id = None
    source = settings.get("chat_template")
    if isinstance(source, list):  # several, by name
        named = {t.get("name"): t.get("template") for t in source if isinstance(t, Mapping)}
        source = named.get("default")
    if (folder / "chat_template.jinja").is_file():
        source = (folder / "chat_template.jinja").read_text(encoding="utf-8", errors="replace")
    template = source if isinstance(source, str) and source else None
    return TextTokenizer(
        engine,
        begin_id=begin_id,
        end_ids=tuple(dict.fromkeys(ends)),
        begin_token=begin,
        end_token=end,
        chat_template=template,
        generation=generation,
    )


def write(tokenizer: TextTokenizer, folder: Path) -> None:
    """See :meth:`TextTokenizer.save`."""
    tokenizer.engine.save(folder)
    settings: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast"}
    name = tokenizer.engine.id_to_token
    if tokenizer.begin_id is not None:
        settings |= {"bos_token": name(tokenizer.begin_id), "add_bos_token": True}
    if tokenizer.end_ids:
        settings["eos_token"] = name(tokenizer.end_ids[0])
    for role, names in _ROLES.items():
        found = next((special for special in names if special in tokenizer.special), None)
        if found is not None:
            settings.setdefault(role, found)
    if tokenizer.chat_template is not None:
        settings["chat_template"] = tokenizer.chat_template
    files.write_text(folder / SETTINGS_FILE, json.dumps(settings, ensure_ascii=False, indent=2) + "\n")
    generation = {**tokenizer.generation, "eos_token_id": list(tokenizer.end_ids)}
    if tokenizer.begin_id is not None:
        generation["bos_token_id"] = tokenizer.begin_id
    files.write_text(folder / GENERATION_FILE, json.dumps(generation, indent=2) + "\n")


def _optional(path: Path) -> dict[str, Any]:
    return config.read_json(path) if path.is_file() else {}


def _name(value: Any) -> str:
    """A token's name as the hub's files give it: text, or an object with its ``content``."""
    if isinstance(value, Mapping):
        value = value.get("content")
    return value if isinstance(value, str) else ""


def _known(engine: Engine, names: Sequence[str]) -> list[int]:
    found = [engine.token_to_id(name) for name in names if name]
    return [number for number in found if number is not None]


def _ids(value: Any) -> list[int]:
    values = value if isinstance(value, list) else [value]
    return [number for number in values if isinstance(number, int) and not isinstance(number, bool)]
