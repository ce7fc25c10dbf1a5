"""Text <-> token ids: one tokenizer class for WordPiece, byte-level BPE, Unigram and fastBPE vocabularies.

Needs the extra ``multiway-core[tokenization]``; SentencePiece files (``*.model``) need ``[sentencepiece]`` as well.
"""

from multiway_core.tokenization.engines import TOKENIZER_FILE
from multiway_core.tokenization.tokenizer import Batch, Encoding, TextTokenizer

__all__ = ["TOKENIZER_FILE", "Batch", "Encoding", "TextTokenizer"]
