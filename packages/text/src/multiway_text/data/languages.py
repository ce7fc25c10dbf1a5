"""Codes of languages as users write them: ISO 639-1 (``de``), ISO 639-3 (``deu``), with a region (``pt_BR``)."""

from __future__ import annotations

import re

from multiway_core.errors import InputError

_TWO_LETTERS = (
    "aa ab ae af ak am an ar as av ay az ba be bg bi bm bn bo br bs ca ce ch co cr cs cu cv cy da de dv dz ee el "
    "en eo es et eu fa ff fi fj fo fr fy ga gd gl gn gu gv ha he hi ho hr ht hu hy hz ia id ie ig ii ik io is it "
    "iu ja jv ka kg ki kj kk kl km kn ko kr ks ku kv kw ky la lb lg li ln lo lt lu lv mg mh mi mk ml mn mr ms mt "
    "my na nb nd ne ng nl nn no nr nv ny oc oj om or os pa pi pl ps pt qu rm rn ro ru rw sa sc sd se sg sh si sk "
    "sl sm sn so sq sr ss st su sv sw ta te tg th ti tk tl tn to tr ts tt tw ty ug uk ur uz ve vi vo wa wo xh yi "
    "yo za zh zu "
)
ISO_639_1 = frozenset(re.findall(r"\w+", _TWO_LETTERS))
_CODE = re.compile(r"([a-z]{2,3})(?:_[A-Za-z0-9]{2,8})*")


def check_language(code: str, where: str) -> str:
    """The code itself. Raises InputError for what is none; of three letters only the form is checked."""
    found = _CODE.fullmatch(code)
    if not found or (len(found[1]) == 2 and found[1] not in ISO_639_1):
        raise InputError(f"{where}: {code!r} is no language code; expected one such as de, deu or pt_BR")
    return code
