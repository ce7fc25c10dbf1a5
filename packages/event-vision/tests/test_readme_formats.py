"""The README's sections on recordings and simulated events run as they stand."""

from __future__ import annotations

import re
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"


def test_the_examples_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    sections = re.split(r"^## ", README.read_text(encoding="utf-8"), flags=re.MULTILINE)
    names: dict[str, object] = {}
    for title in ("Recordings", "Simulated events"):
        section = next(section for section in sections if section.startswith(title))
        blocks = re.findall(r"^```python\n(.*?)^```", section, re.DOTALL | re.MULTILINE)
        assert blocks
        for block in blocks:
            exec(compile(block, str(README), "exec", dont_inherit=True), names)
    assert capsys.readouterr().out.startswith("evt3 128 96 {")
