"""The README's examples run as they stand; that of detection, where its bundled model is."""

from __future__ import annotations

import re
from pathlib import Path

from multiway_core import hub

README = Path(__file__).parents[1] / "README.md"


def test_the_examples_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    sections = re.split(r"^## ", README.read_text(encoding="utf-8"), flags=re.MULTILINE)
    names: dict[str, object] = {}
    detection = ["Detection"] if "ssla-shapes" in hub.bundled() else []
    for title in ("Recordings", *detection, "Simulated events"):
        section = next(section for section in sections if section.startswith(title))
        blocks = re.findall(r"^```python\n(.*?)^```", section, re.DOTALL | re.MULTILINE)
        assert blocks
        for block in blocks:
            exec(compile(block, str(README), "exec", dont_inherit=True), names)
    assert capsys.readouterr().out.startswith("evt3 128 96 {")
