"""One picture, one request: to standard output, and to a picture file if one is asked for."""

from __future__ import annotations

from pathlib import Path

from multiway_core.app import ModelLoader, write_json, write_stdout

from multiway_grounding.request import Request


def ground(image: Path, request: Request, loader: ModelLoader, *, json: bool, save: Path | None) -> None:
    """Open, ask, print. Raises InputError, OutputError; StopRun when the model cannot be loaded."""
    from multiway_vision_language.pictures import open_picture

    from multiway_grounding.show import as_text, require_picture_file, save_annotated

    if save is not None:
        require_picture_file(save)
    picture = open_picture(image)
    result = request.run(loader(), picture)
    if save is not None:
        save_annotated(picture, result, save)
    if json:
        write_json(result.to_json())
    else:
        write_stdout(as_text(result))
