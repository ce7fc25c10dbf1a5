"""What ``train`` knows: fine-tuning an encoder to write (s2s-ft), and encoder and decoder of many languages (XNLG)."""

from typing import Any

from multiway_text.s2s_ft.recipe import RECIPES as S2S_FT
from multiway_text.xnlg.recipe import RECIPES as XNLG

RECIPES: dict[str, Any] = {**S2S_FT, **XNLG}
