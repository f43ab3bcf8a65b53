"""The cluster's profile and the rules say the same."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
FILES = [ROOT / "workflow/Snakefile", *sorted((ROOT / "workflow/rules").glob("*.smk"))]
RULES: dict[str, str] = {}
for file in FILES:
    # A rule that is defined in two ways has both bodies.
    for _, name, body in re.findall(
        r"^( *)rule (\w+):\n((?:\1 +.*\n|\n)*)", file.read_text("utf-8"), re.MULTILINE
    ):
        RULES[name] = RULES.get(name, "") + body
# The sweeps share one definition, made once for each of them.
SWEEPS = (ROOT / "workflow/rules/train.smk").read_text("utf-8").partition("for experiment in")[2]
RULES |= dict.fromkeys(("elr", "kshot", "online", "regularized", "summary", "active"), SWEEPS)


@pytest.fixture(scope="module")
def resources() -> dict[str, dict[str, int | str]]:
    profile = yaml.safe_load((ROOT / "profiles/slurm/config.yaml").read_text("utf-8"))
    return profile["set-resources"]


@pytest.fixture(scope="module")
def local() -> set[str]:
    text = "\n".join(file.read_text("utf-8") for file in FILES)
    blocks = re.findall(r"^localrules:\n((?:    \w+,\n)+)", text, re.MULTILINE)
    listed = {name for block in blocks for name in re.findall(r"\w+", block)}
    return listed | {name for name, body in RULES.items() if "localrule: True" in body}


def test_every_rule_is_local_or_says_what_it_asks_for(
    resources: dict[str, dict[str, int | str]], local: set[str]
) -> None:
    assert local | set(resources) == set(RULES)
    assert not local & set(resources)


def test_rules_that_count_gpus_ask_for_them(resources: dict[str, dict[str, int | str]]) -> None:
    counting = {name for name, body in RULES.items() if "gpu=1" in body}

    # Pre-training asks for one, converting weights does not: the rule says so, and the profile must not.
    assert "backbone" in counting
    assert "gpu" not in resources["backbone"]
    assert counting - {"backbone"} <= {
        name for name, asked in resources.items() if asked.get("gpu") == 1
    }


def test_limits_are_constant_and_fit_into_a_day(
    resources: dict[str, dict[str, int | str]],
) -> None:
    assert all(isinstance(asked["runtime"], int) for asked in resources.values())
    assert max(int(asked["runtime"]) for asked in resources.values()) < 24 * 60


def test_lines_that_are_offered_in_comments_are_resources_and_options_that_exist() -> None:
    text = (ROOT / "profiles/slurm/config.yaml").read_text("utf-8")
    offered = re.findall(r"^ *# +slurm[\w-]+: .+$", text, re.MULTILINE)

    assert {line.strip("# ").partition(":")[0] for line in offered} == {
        "slurm_partition",
        "slurm_account",
        "slurm-qos",
    }


def test_every_entry_of_a_profile_has_its_reason() -> None:
    for profile in sorted((ROOT / "profiles").glob("*/config.yaml")):
        lines = profile.read_text("utf-8").splitlines()
        for number, line in enumerate(lines):
            if re.match(r"^[a-z-]+:|^  \w+:$", line):
                assert lines[number - 1].lstrip().startswith("#"), f"{profile}:{number + 1}"
