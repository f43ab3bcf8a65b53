"""Write the conda environments of the rules from pyproject.toml: python workflow/envs/make.py."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

HERE = Path(__file__).parent
CONDA_NAMES = {"torch": "pytorch"}
# Jobs that neither train nor open a notebook do without these; no job runs Snakemake.
HEAVY = {"ipykernel", "jupytext", "nbconvert", "pygments", "safetensors", "torch", "torchvision"}
NOT_IN_JOBS = {"snakemake"}
TITLES = {
    "plain": "downloads, decodes, aggregates and draws",
    "torch": "trains or opens a notebook",
}


def environment(name: str) -> str:
    """The text of an environment.

    Args:
        name: `plain` or `torch`.

    Returns:
        YAML; lower bounds as in pyproject.toml.
    """
    project = tomllib.loads((HERE.parents[1] / "pyproject.toml").read_text("utf-8"))["project"]
    lines = [*project["dependencies"], *project["optional-dependencies"]["workflow"]]
    left_out = NOT_IN_JOBS | (HEAVY if name == "plain" else set())
    packages = {re.split("[>=<~!]", line)[0]: line for line in sorted(lines)}
    wanted = [f"python{project['requires-python']}"]
    wanted += [
        line.replace(package, CONDA_NAMES.get(package, package), 1)
        for package, line in packages.items()
        if package not in left_out
    ]
    head = f"# For rules whose job {TITLES[name]}. Made by workflow/envs/make.py from pyproject.toml.\n"
    head += "channels:\n  - conda-forge\n  - nodefaults\ndependencies:\n"
    return head + "".join(f"  - {line}\n" for line in wanted)


if __name__ == "__main__":
    for name in TITLES:
        (HERE / f"{name}.yaml").write_text(environment(name), "utf-8")
