"""pyproject.toml, environment.yml and constraints.txt say the same."""

from __future__ import annotations

import tomllib
from pathlib import Path

import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
CONDA_NAMES = {"pytorch": "torch"}


def declared() -> dict[str, Requirement]:
    """Direct dependencies of the package, the workflow and the tests."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    used = (extras[name] for name in ("workflow", "slurm", "peers", "test"))
    lines = [line for lines in (project["dependencies"], *used) for line in lines]
    found = [Requirement(line) for line in lines if not line.startswith("lqf")]
    return {canonicalize_name(one.name): one for one in found}


def test_environment_has_the_same_lower_bounds() -> None:
    lines = yaml.safe_load((ROOT / "environment.yml").read_text("utf-8"))["dependencies"]
    plain = [line for line in lines if isinstance(line, str) and line != "pip"]
    plain += next(line["pip"] for line in lines if isinstance(line, dict))
    found = {}
    for requirement in map(Requirement, plain):
        name = CONDA_NAMES.get(requirement.name, requirement.name)
        found[canonicalize_name(name)] = str(requirement.specifier)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]

    assert found.pop("python") == project["requires-python"]
    assert found == {name: str(one.specifier) for name, one in declared().items()}


def test_tested_set_satisfies_the_lower_bounds() -> None:
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    tested = dict(line.split("==") for line in lines if line and not line.startswith("#"))

    assert sorted(set(declared()) - set(tested)) == []
    for name, requirement in declared().items():
        assert requirement.specifier.contains(tested[name]), requirement


def test_changelog_and_citation_name_the_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]

    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))

    assert citation["version"] == version
