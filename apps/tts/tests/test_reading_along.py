"""Models of the bundled one's kind, which read phones: turns are told, and what has no phones is refused at once."""

from __future__ import annotations

import json
from itertools import pairwise


def test_turns_in_one_go_have_their_times(call, small_folder, tmp_path) -> None:
    script = "Speaker 1: Good day.\nSpeaker 2: To you, too.\nEmma: Hi. [pause:200ms] 5 naïve café 👋 Grüße."
    code, out, err = call(
        "speak", script, "-o", tmp_path / "x.wav", "--model", small_folder, "--steps", 1, "--json"
    )
    assert code == 0, err
    turns = json.loads(out)["turns"]
    assert [turn["speaker"] for turn in turns] == ["Speaker 1", "Speaker 2", "emma", "emma"]
    assert not any(turn["estimated"] for turn in turns)
    starts = [turn["start"] for turn in turns]
    assert starts == sorted(starts)
    assert all(one["end"] <= other["start"] + 1e-3 for one, other in pairwise(turns))


def test_what_cannot_be_read_is_refused_before_the_first_sound(call, small_folder, tmp_path) -> None:
    script = "Speaker 1: Good day.\nSpeaker 2: 日本語。"
    code, out, err = call("speak", script, "-o", tmp_path / "x.wav", "--model", small_folder, "--steps", 1)
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert (
        "script, line 2: there is nothing to say in '日本語。': give a text of Latin letters or digits" in err
    )
    assert list(tmp_path.iterdir()) == []
