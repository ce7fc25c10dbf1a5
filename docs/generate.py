"""Pages made from the repository: READMEs and model cards, tables of measurements, the reference of the API.

mkdocs-gen-files runs this before a build. Nothing is written into the checkout. A link between two Markdown files
keeps working; a link to a file that is no page (source code, a licence) becomes its path as code, because the site does
not know where the reader keeps the repository.
"""

from __future__ import annotations

import ast
import os
import re
from pathlib import Path

import mkdocs_gen_files

ROOT = Path(__file__).parent.parent
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s#]*)(#[^)\s]*)?\)")
PACKAGES = [
    *sorted(ROOT.glob("packages/*/src/multiway_*")),
    *sorted(ROOT.glob("apps/*/src/multiway_*")),
    ROOT / "src" / "multiway",
]


def main() -> None:
    pages = site_pages()
    for source, target in pages.items():
        text = rewrite_links(source, source.read_text(encoding="utf-8"), pages)
        with mkdocs_gen_files.open(target, "w") as file:
            file.write(text)
    reference = [line for package in PACKAGES for line in write_reference(package)]
    with mkdocs_gen_files.open("SUMMARY.md", "w") as file:
        file.write("\n".join([*navigation(pages), "* API reference", *reference]) + "\n")


def site_pages() -> dict[Path, str]:
    """Every Markdown file that is a page: its path and the page's, below the site's root."""
    pages = {path: path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    for name in ("CONTRIBUTING", "CHANGELOG"):
        pages[ROOT / f"{name}.md"] = f"{name.lower()}.md"
    for path in ROOT.glob("apps/*/README.md"):
        pages[path] = f"apps/{path.parent.name}.md"
    for path in ROOT.glob("packages/*/README.md"):
        pages[path] = f"packages/{path.parent.name}.md"
    for path in ROOT.glob("packages/*/src/**/README.md"):
        package, inside = (
            path.relative_to(ROOT / "packages").parts[0],
            path.parent.relative_to(ROOT).parts[4:],
        )
        pages[path] = f"cards/{package}/{'-'.join(inside)}.md"
    pages[ROOT / "benchmarks" / "README.md"] = "benchmarks/index.md"
    for path in ROOT.glob("benchmarks/results/**/*.md"):
        pages[path] = f"benchmarks/{path.relative_to(ROOT / 'benchmarks' / 'results').as_posix()}"
    return pages


def rewrite_links(source: Path, text: str, pages: dict[Path, str]) -> str:
    """The text with its relative links leading to pages of the site; pictures are copied beside the page."""
    here = Path(pages[source]).parent

    def link(found: re.Match[str]) -> str:
        picture, label, address, anchor = found[1], found[2], found[3], found[4] or ""
        if not address or "://" in address or address.startswith("mailto:"):
            return found[0]
        target = Path(os.path.normpath(source.parent / address))
        target = target / "README.md" if target.is_dir() else target
        if target in pages:
            return f"{picture}[{label}]({os.path.relpath(pages[target], here)}{anchor})"
        if picture and target.is_file():
            name = f"pictures/{'-'.join(target.relative_to(ROOT).parts)}"
            with mkdocs_gen_files.open(name, "wb") as file:
                file.write(target.read_bytes())
            return f"![{label}]({os.path.relpath(name, here)})"
        path = os.path.relpath(target, ROOT)
        return label if label.strip("`") == path else f"{label} (`{path}`)"

    return LINK.sub(link, text)


def write_reference(package: Path) -> list[str]:
    """One page for each part of a package (a module or a subpackage); the lines of the navigation."""
    lines = [f"    * {package.name}"]
    for part in sorted(package.iterdir()):
        modules = sorted(part.rglob("*.py")) if (part / "__init__.py").is_file() else [part]
        modules = [module for module in modules if module.suffix == ".py" and has_public_names(module)]
        if not modules or part.name in ("__init__.py", "__main__.py"):
            continue
        name = f"{package.name}.{part.stem}"
        page = f"reference/{package.name}/{part.stem}.md"
        with mkdocs_gen_files.open(page, "w") as file:
            file.write(f"# {name}\n\n")
            file.writelines(f"::: {module_name(package, module)}\n\n" for module in modules)
        lines.append(f"        * [{part.stem}]({page})")
    return lines if len(lines) > 1 else []


def module_name(package: Path, module: Path) -> str:
    """``.../multiway_text/decoders/llama/model.py`` -> ``multiway_text.decoders.llama.model``."""
    parts = module.relative_to(package.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def has_public_names(module: Path) -> bool:
    """Whether a module defines something that a reader may call: a page of imports alone says nothing."""
    definitions = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    body = ast.parse(module.read_text(encoding="utf-8")).body
    return any(isinstance(node, definitions) and not node.name.startswith("_") for node in body)


def navigation(pages: dict[Path, str]) -> list[str]:
    """The table of contents above the reference, in the order in which a newcomer reads."""
    lines = ["* [Multiway](index.md)", "* [Install](install.md)"]
    chapters = {
        "Tutorials": "tutorials/",
        "How-to guides": "how-to/",
        "Apps": "apps/",
        "Packages": "packages/",
        "Model cards": "cards/",
        "Measurements": "benchmarks/",
    }
    titles = {target: title(source) for source, target in pages.items()}
    for chapter, folder in chapters.items():
        inside = sorted(
            (target for target in titles if target.startswith(folder)),
            key=lambda page: (page.count("/"), page),
        )
        if inside:
            lines += [f"* {chapter}", *(f"    * [{titles[target]}]({target})" for target in inside)]
    lines += [
        "* About",
        "    * [Security](security.md)",
        "    * [Planted mistakes](mutations.md)",
        "    * [How to add a system](contributing.md)",
        "    * [Changelog](changelog.md)",
    ]
    return lines


def title(page: Path) -> str:
    """The first heading of a page, without marks."""
    found = re.search(r"^# +(.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    text = found[1] if found else page.stem
    return re.sub(r"\[([^\]]*)\]\([^)]*\)|[`*]", r"\1", text).strip()


main()
