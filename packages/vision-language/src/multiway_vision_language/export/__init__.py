"""What groundings can be written as: the formats that annotation tools and trainers open.

    write(results, "coco", Path("found.json"))
    write(results, "yolo", Path("labels"))      # a folder

All boxes are cut to their picture. Classes and labels are the phrases without an article before them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from multiway_core.errors import InputError
from multiway_core.files import replace_folder, write_text

from multiway_vision_language.export.coco import to_coco
from multiway_vision_language.export.label_studio import to_label_studio
from multiway_vision_language.export.referring import to_referring
from multiway_vision_language.export.table import to_csv
from multiway_vision_language.export.voc import to_voc
from multiway_vision_language.export.yolo import to_yolo
from multiway_vision_language.result import Grounding


@dataclass(frozen=True)
class Format:
    """A format: what it is for, and its file's extension; ``extension`` is None where it is a folder.

    ``build`` gives the file's text, or for a folder the texts of its files by relative path.
    """

    name: str
    description: str
    extension: str | None
    build: Callable[[Sequence[Grounding]], str | Mapping[str, str]]


FORMATS: dict[str, Format] = {
    format.name: format
    for format in (
        Format("coco", "COCO detection: categories from phrases, with scores", ".json", to_coco),
        Format("referring", "COCO-style referring file, one expression a record", ".json", to_referring),
        Format("yolo", "YOLO labels, classes.txt and data.yaml", None, to_yolo),
        Format("voc", "Pascal VOC, one XML file a picture", None, to_voc),
        Format(
            "label-studio", "Label Studio tasks to edit, with the labelling config", None, to_label_studio
        ),
        Format("csv", "a table, one row a box", ".csv", to_csv),
    )
}


def write(
    results: Iterable[Grounding], format: str, destination: str | Path, *, overwrite: bool = False
) -> None:
    """Write results as one of ``FORMATS``, whole or not at all.

    Args:
        results: any number of results, none included; several of one source are put together.
        format: a key of ``FORMATS``.
        destination: the file, which is replaced if it exists; a folder for formats without an extension.
        overwrite: lets a folder that is not empty be replaced, with all that it holds.

    Raises:
        InputError: no such format, or the results cannot be told apart in it.
        OutputError: the destination cannot be written.
    """
    chosen = FORMATS.get(format)
    if chosen is None:
        raise InputError(f"unknown format {format!r}; one of: {', '.join(FORMATS)}")
    built = chosen.build(list(results))
    if isinstance(built, str):
        write_text(Path(destination), built)
        return
    with replace_folder(Path(destination), overwrite=overwrite) as folder:
        for path, text in built.items():
            write_text(folder / path, text)


__all__ = ["FORMATS", "Format", "write"]
