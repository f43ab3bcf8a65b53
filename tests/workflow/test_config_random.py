"""200 random configurations: what is accepted can be cut into jobs, what is refused has its sentences."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lqf import config
from lqf.config_keys import points
from lqf.data import published

ROOT = Path(__file__).parents[2]
PUBLISHED = published.read(ROOT / "config/datasets.yaml").datasets
DEMO = config.load(ROOT / "config/config.yaml", ROOT / "config/demo.yaml")
Place = tuple[str | int, ...]


def places(node: Any, path: Place = ()) -> Iterator[Place]:
    """Where a configuration has a value; of the claims the first is enough."""
    if path:
        yield path
    if isinstance(node, dict):
        for key, child in node.items():
            yield from places(child, (*path, key))
    elif isinstance(node, list):
        for position, child in enumerate(node[:1] if path == ("claims",) else node):
            yield from places(child, (*path, position))


scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 10**6),
    st.floats(),
    st.text(max_size=6),
    st.sampled_from(
        ["lqf", "nlft", "lqf_exact", "greek", "mit67", "1e-3", "swap", "$(id)", "../x"]
    ),
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=2)
    ),
    max_leaves=4,
)
changes = st.tuples(
    st.sampled_from([*places(DEMO)]), st.sampled_from(["set", "remove", "rename", "twice"]), values
)


def changed(one: tuple[Place, str, Any], tree: dict[str, Any]) -> None:
    """Change a configuration at a place, if an earlier change has left it there."""
    (*parents, last), how, value = one
    node: Any = tree
    try:
        for parent in parents:
            node = node[parent]
        old = node[last]
    except (KeyError, IndexError, TypeError):
        return
    if how == "set" or not isinstance(node, dict | list):
        node[last] = value
    elif how == "twice" and isinstance(old, int | float):
        node[last] = 2 * old
    elif how == "rename" and isinstance(node, dict):
        node[f"{last}s"] = node.pop(last)
    else:
        del node[last]


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(changes, min_size=1, max_size=3))
def test_a_random_configuration_is_planned_or_refused_in_sentences(
    wanted: list[tuple[Place, str, Any]],
) -> None:
    tree = copy.deepcopy(DEMO)
    for one in wanted:
        changed(one, tree)

    try:
        resolved = config.resolve(tree, PUBLISHED)
    except config.ConfigError as problem:
        refused = str(problem).splitlines()
    else:
        refused = []

    assert all(line.endswith(".") for line in refused), refused
    if refused:
        return
    for name, section in resolved["experiments"].items():
        assert section["seeds"]
        for one in section.get("methods", []):
            assert one in points(resolved)
            assert config.job_settings(resolved, method_name=one, experiment=name)
