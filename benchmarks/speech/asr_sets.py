"""Real recordings with references, and mixed conversations, as folders that `multiway-asr evaluate` scores.

    python -m benchmarks.speech.asr_sets --output SETS [--ljspeech DIR] [--librivox DIR] [--digits DIR] [--ami DIR]
        [--cities FILE.wav] [--game SOUND_DIR SCRIPT_DIR] [--clips DIR]

A folder a set is made in SETS, each once. Nothing of it belongs into the repository.

* **ljspeech**: a folder with `metadata.csv` and its recordings (the data set's own layout; any audio format).
* **librivox**: `data/librivox` of Debian's `pocketsphinx-testdata`.
* **digits**: `recordings` of the Free Spoken Digit Dataset; its test set, numbers 0 to 4 of each speaker and digit.
* **ami**: recordings with `.rttm` files beside them: who speaks when, without words.
* **cities**: `two_cities.wav` out of the package `moonshine-voice`, 44 s read aloud.
* **game**: Czech dialogue of two and more actors, out of Debian's `fillets-ng-data-cs` (the folder `sound`) and
  `fillets-ng-data` (the folder `script`): each room's lines in the order of its script, half a second between them.
* **texts**, **voices**, **names-told**, ...: a folder with `clips.json`, which `asr_tiny.py make` writes: conversations
  mixed from held-out texts and voices, and sentences with rare names, whose contexts become `contexts.json`.
"""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import soundfile
from multiway_core.files import write_text
from multiway_speech.audio import SoundFile, read
from multiway_speech.result import Segment, Transcript

from benchmarks import harness

RATE = 16_000
AUDIO = frozenset({".wav", ".flac", ".mp3", ".ogg"})
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
TEST_DIGITS = 5
GAP = 0.5
LONGEST_ROOM, ROOMS = 90.0, 12
CITIES = (
    "It was the best of times, it was the worst of times, it was the age of wisdom, it was the age of "
    "foolishness, it was the epoch of belief, it was the epoch of incredulity, it was the season of Light, it "
    "was the season of Darkness, it was the spring of hope, it was the winter of despair, we had everything "
    "before us, we had nothing before us, we were all going direct to Heaven, we were all going direct the "
    "other way, in short, the period was so far like the present period, that some of its noisiest "
    "authorities insisted on its being received, for good or for evil, in the superlative degree of "
    "comparison only."
)
"""Charles Dickens, A Tale of Two Cities, chapter 1."""


def ljspeech(folder: Path, output: Path) -> None:
    """Texts as they are spoken: the third column of the metadata, with numbers written out."""
    recordings = _by_stem(folder)
    with (folder / "metadata.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file, delimiter="|", quoting=csv.QUOTE_NONE))
    _manifest(output, ((recordings[row[0]], row[2]) for row in rows if row[0] in recordings))


def librivox(folder: Path, output: Path) -> None:
    """`<s> words </s> (name)` lines."""
    lines = (folder / "transcription").read_text("utf-8").splitlines()
    found = (re.fullmatch(r"<s> (.*) </s> \((.*)\)", line.strip()) for line in lines)
    _manifest(output, ((folder / f"{match[2]}.wav", match[1]) for match in found if match))


def digits(folder: Path, output: Path) -> None:
    """`{digit}_{speaker}_{number}` files."""
    _manifest(
        output,
        (
            (file, DIGITS[int(name.split("_")[0])])
            for name, file in sorted(_by_stem(folder).items())
            if int(name.split("_")[2]) < TEST_DIGITS
        ),
    )


def ami(folder: Path, output: Path) -> None:
    """Recordings, and the turns of exactly these."""
    recordings = _by_stem(folder)
    for name, file in recordings.items():
        shutil.copyfile(file, output / f"{name}{file.suffix}")
    for file in sorted(folder.glob("*.rttm")):
        lines = [line for line in file.read_text("utf-8").splitlines() if line.split()[1] in recordings]
        if lines:
            write_text(output / file.name, "\n".join(lines) + "\n")


def cities(file: Path, output: Path) -> None:
    """One recording."""
    _manifest(output, [(file, CITIES)])


def game(sounds: Path, scripts: Path, output: Path) -> None:
    """The `ROOMS` rooms with the most lines, each up to `LONGEST_ROOM`, in which at least two voices speak."""
    rooms: list[tuple[str, list[tuple[Path, str, str]]]] = []
    for script in sorted(scripts.glob("*/dialogs_cs.lua")):
        folder = sounds / script.parent.name / "cs"
        lines = [
            (folder / f"{name}.ogg", font, text) for name, font, text in lines_of(script.read_text("utf-8"))
        ]
        rooms.append((script.parent.name, [line for line in lines if line[0].is_file()]))
    made = 0
    for room, lines in sorted(rooms, key=lambda found: -len(found[1])):
        waves: list[np.ndarray] = []
        segments: list[Segment] = []
        fonts: dict[str, int] = {}
        at = 0.0
        for file, font, text in lines:
            wave = read(SoundFile(file), RATE, max_seconds=60)
            end = at + len(wave) / RATE
            if end > LONGEST_ROOM:
                break
            segments.append(Segment(round(at, 3), round(end, 3), fonts.setdefault(font, len(fonts)), text))
            waves += [wave, np.zeros(int(GAP * RATE), dtype=np.float32)]
            at = end + int(GAP * RATE) / RATE
        if len(fonts) > 1:
            _conversation(output, room, np.concatenate(waves), segments, language="cs")
            made += 1
        if made == ROOMS:
            break


def lines_of(script: str) -> Iterator[tuple[str, str, str]]:
    """Id, font (which stands for the speaker) and local text of each line of a script in Lua."""
    pattern = r'dialogId\("([^"]+)",\s*"([^"]+)",.*?\)\s*dialogStr\("((?:[^"\\]|\\.)*)"\)'
    for match in re.finditer(pattern, script, flags=re.DOTALL):
        yield match[1], match[2], re.sub(r"\\(.)", r"\1", match[3])


def clips(folder: Path, output: Path, part: str) -> None:
    """The clips of one part of `clips.json`."""
    contexts: dict[str, str] = {}
    for clip in json.loads((folder / "clips.json").read_text("utf-8")):
        if clip["part"] == part:
            name = Path(clip["file"]).stem
            wave = read(SoundFile(folder / clip["file"]), RATE, max_seconds=600)
            segments = [Segment(start, end, speaker, text) for start, end, speaker, text in clip["segments"]]
            _conversation(output, name, wave, segments, language="en")
            if clip.get("context"):
                contexts[name] = clip["context"]
    if contexts:
        write_text(output / "contexts.json", json.dumps(contexts, indent=2) + "\n")


def _conversation(
    output: Path, name: str, wave: np.ndarray, segments: list[Segment], *, language: str
) -> None:
    soundfile.write(output / f"{name}.flac", np.clip(wave, -1, 1), RATE)
    transcript = Transcript(
        f"{name}.flac", "reference", round(len(wave) / RATE, 3), tuple(segments), language
    )
    write_text(output / f"{name}.json", transcript.dumps())


def _manifest(output: Path, pairs: Iterator[tuple[Path, str]] | list[tuple[Path, str]]) -> None:
    rows = []
    for file, text in pairs:
        shutil.copyfile(file, output / file.name)
        rows.append(
            json.dumps({"audio": file.name, "text": text, "language": "en"}, ensure_ascii=False) + "\n"
        )
    write_text(output / "manifest.jsonl", "".join(rows))


def _by_stem(folder: Path) -> dict[str, Path]:
    return {file.stem: file for file in sorted(folder.iterdir()) if file.suffix in AUDIO}


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("--output", type=Path, required=True)
    for name in ("ljspeech", "librivox", "digits", "ami", "cities", "clips"):
        parser.add_argument(f"--{name}", type=Path)
    parser.add_argument("--game", type=Path, nargs=2, metavar=("SOUND_DIR", "SCRIPT_DIR"))
    options = parser.parse_args()
    makers: dict[str, tuple[Callable[..., None], tuple[Path | str, ...]]] = {}
    for maker in (ljspeech, librivox, digits, ami, cities):
        if getattr(options, maker.__name__):
            makers[maker.__name__] = (maker, (getattr(options, maker.__name__),))
    if options.game:
        sounds, scripts = options.game
        makers["game"] = (lambda output: game(sounds, scripts, output), ())
    if options.clips:
        found = json.loads((options.clips / "clips.json").read_text("utf-8"))
        for part in dict.fromkeys(clip["part"] for clip in found):
            makers[part] = (lambda output, part=part: clips(options.clips, output, part), ())
    for name, (maker, arguments) in makers.items():
        folder = options.output / name
        if folder.exists():
            print(f"{name}: is there already")
            continue
        made = options.output / f".{name}"
        shutil.rmtree(made, ignore_errors=True)
        made.mkdir(parents=True)
        maker(*arguments, made)
        made.rename(folder)
        count = sum(file.suffix in AUDIO for file in folder.iterdir())
        print(f"{name}: {count} recordings")


if __name__ == "__main__":
    main()
