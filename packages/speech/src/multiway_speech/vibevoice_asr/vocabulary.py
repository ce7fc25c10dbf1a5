"""A small vocabulary for transcripts: byte-level BPE of plain text, and one token for each fixed string.

The strings around the words, the system prompt, the request and the keys of the JSON list, are always the same; as
single tokens they cost little and leave the text, byte for byte, what the published models read and write. Times are
two tokens, the whole seconds and the hundredths.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from multiway_core.tokenization import TOKENIZER_FILE, byte_bpe
from tokenizers import AddedToken, Tokenizer

from multiway_speech.vibevoice_asr.config import AsrTokens
from multiway_speech.vibevoice_asr.prompt import KEYS, SYSTEM

CONTROL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|object_ref_start|>",
    "<|object_ref_end|>",
    "<|box_start|>",
)
"""Special tokens of the published models, ids from 0."""
TOKENS = AsrTokens(eos=0, turn_start=1, turn_end=2, start=3, end=4, frame=5)
SILENCE, NOISE = "[Silence]", "[Noise]"
FIXED = (
    f"system\n{SYSTEM}",
    "user\n",
    "\nThis is a ",
    f" seconds audio, please transcribe it with these keys: {KEYS}",
    " seconds audio, with extra info: ",
    f"\n\nPlease transcribe it with these keys: {KEYS}",
    'assistant\n[{"Start":',
    ',"End":',
    ',"Speaker":',
    ',"Content":"',
    '"},{"Start":',
    '"}]',
    SILENCE,
    NOISE,
    *(str(seconds) for seconds in range(10, 60)),
    *(f".{hundredths:02}" for hundredths in range(100)),
)


def train_tokenizer(texts: Iterable[str], pieces: int = 1000) -> Tokenizer:
    """A tokenizer with ``pieces`` tokens of text, bytes and :data:`CONTROL` included, and :data:`FIXED` behind them."""
    tokenizer = byte_bpe.train(texts, pieces, special=CONTROL)
    tokenizer.add_tokens([AddedToken(text, normalized=False) for text in FIXED])
    return tokenizer


def save_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """Write ``tokenizer.json``."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / TOKENIZER_FILE))


def write_answer(segments: Sequence[tuple[float, float, int | None, str]]) -> str:
    """The answer for (start, end, speaker, text), compact JSON behind the turn's header; texts without ``"``."""
    items = []
    for start, end, speaker, text in segments:
        who = "" if speaker is None else f',"Speaker":{speaker}'
        items.append(f'{{"Start":{start:.2f},"End":{end:.2f}{who},"Content":"{text}"}}')
    return f"assistant\n[{','.join(items)}]"
