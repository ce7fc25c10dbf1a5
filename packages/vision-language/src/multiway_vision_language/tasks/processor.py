"""Pictures and words -> tensors, for all tasks and architectures.

Shape suffixes: B batch, P pictures of an example, C channels, H height, W width, T text tokens.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from multiway_core.errors import InputError
from multiway_core.tokenization import TextTokenizer
from PIL import Image
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from torch import Tensor

from multiway_vision_language.pictures import PictureSource, open_picture

BEGIN, PAD, END, UNKNOWN, MASK = "[CLS]", "[PAD]", "[SEP]", "[UNK]", "[MASK]"


@dataclass(frozen=True)
class WordIds:
    """Special tokens of a vocabulary."""

    begin: int
    pad: int
    end: int
    mask: int

    @property
    def all(self) -> tuple[int, ...]:
        """Ids that are never hidden."""
        return self.begin, self.pad, self.end, self.mask


class PairProcessor:
    """Square pictures between -1 and 1 (the released models' 0.5 mean and deviation), and padded tokens."""

    def __init__(self, tokenizer: TextTokenizer, *, image_size: int, max_text: int) -> None:
        self.tokenizer, self.image_size, self.max_text = tokenizer, image_size, max_text
        self.ids = word_ids(tokenizer)

    def pixels(self, pictures: Sequence[PictureSource]) -> Tensor:
        """(N, C, H, W) float32, each picture bicubically resized to the square. Raises InputError: a bad picture."""
        return torch.stack([self._pixels(picture) for picture in pictures])

    def _pixels(self, picture: PictureSource) -> Tensor:
        from torchvision.transforms import functional

        size = [self.image_size, self.image_size]
        image = open_picture(picture).image
        if image.size != tuple(size):
            image = image.resize((self.image_size, self.image_size), Image.Resampling.BICUBIC)
        return functional.pil_to_tensor(image).float() / 127.5 - 1

    def texts(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Tokens (B, T) with begin and end, and where they are real. Raises InputError: a text without words."""
        for text in texts:
            if not text.strip():
                raise InputError("a text has no words")
        batch = self.tokenizer.batch(texts, max_length=self.max_text)
        return batch.ids_BT, batch.valid_BT


def word_ids(tokenizer: TextTokenizer) -> WordIds:
    """Special tokens of BERT's vocabularies or of the released `beit3.spm`. Raises CheckpointError: others."""
    if BEGIN in tokenizer.special:
        begin, pad, end, mask = (tokenizer.special_id(name) for name in (BEGIN, PAD, END, MASK))
        return WordIds(begin, pad, end, mask)
    mask = tokenizer.special.get("<mask>", 64_001)
    begin, pad, end = (tokenizer.special_id(name) for name in ("<s>", "<pad>", "</s>"))
    return WordIds(begin, pad, end, mask)


def train_tokenizer(texts: Iterable[str], vocab_size: int, folder: Path) -> TextTokenizer:
    """WordPiece in lower case with BERT's special tokens, written to ``folder/tokenizer.json``; an older one is kept.

    Its pieces are all characters of the texts and their most frequent words, so the same texts give the same ids; the
    library's own trainer numbers pieces in a random order.
    """
    path = folder / "tokenizer.json"
    if not path.is_file():
        normalizer, cut = normalizers.BertNormalizer(lowercase=True), pre_tokenizers.BertPreTokenizer()
        count = Counter(
            word for text in texts for word, _ in cut.pre_tokenize_str(normalizer.normalize_str(text))
        )
        characters = sorted({character for word in count for character in word})
        pieces = [PAD, UNKNOWN, BEGIN, END, MASK, *characters, *(f"##{c}" for c in characters)]
        frequent = sorted(count, key=lambda word: (-count[word], word))
        pieces += [word for word in frequent if len(word) > 1][: max(0, vocab_size - len(pieces))]
        vocab = {piece: index for index, piece in enumerate(dict.fromkeys(pieces))}
        library = Tokenizer(models.WordPiece(vocab=vocab, unk_token=UNKNOWN))
        library.normalizer, library.pre_tokenizer = normalizer, cut
        library.decoder = decoders.WordPiece()
        library.add_special_tokens([PAD, UNKNOWN, BEGIN, END, MASK])
        library.post_processor = processors.BertProcessing((END, vocab[END]), (BEGIN, vocab[BEGIN]))
        folder.mkdir(parents=True, exist_ok=True)
        library.save(str(path))
    return TextTokenizer.from_folder(folder)
