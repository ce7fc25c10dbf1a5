"""What every member of the workspace says about itself: its licence, and its siblings at its own version."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MEMBERS = [
    ROOT,
    *sorted(path.parent for path in ROOT.glob("*/*/pyproject.toml") if ".venv" not in path.parts),
]


def project(member: Path) -> dict:
    return tomllib.loads((member / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.mark.parametrize("member", MEMBERS, ids=lambda path: path.name)
def test_the_licence_goes_into_wheel_and_sdist(member):
    assert "LICENSE" in project(member)["license-files"]
    assert (member / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
    for notice in member.glob("src/**/*.LICENSE"):  # of weights and data that came from others
        assert notice in [
            path for pattern in project(member)["license-files"] for path in member.glob(pattern)
        ]


@pytest.mark.parametrize("member", MEMBERS, ids=lambda path: path.name)
def test_siblings_are_pinned_to_one_version(member):
    version = project(ROOT)["version"]
    found = project(member)
    assert found["version"] == version
    extras = found.get("optional-dependencies", {}).values()
    for requirement in [*found.get("dependencies", []), *(item for extra in extras for item in extra)]:
        if requirement.startswith("multiway"):
            assert re.fullmatch(rf"multiway-[a-z-]+(\[[a-z,-]+\])?=={re.escape(version)}", requirement)


@pytest.mark.parametrize("member", MEMBERS, ids=lambda path: path.name)
def test_dependencies_have_a_lower_bound(member):
    for requirement in project(member).get("dependencies", []):
        assert re.search(r">=|==", requirement), requirement
