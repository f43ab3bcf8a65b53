"""What is wrong with a YAML file is one sentence with its name and the line."""

from __future__ import annotations

from pathlib import Path

import pytest

from lqf import config, documents


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("a: 1\nb: 2\na: 3\n", r"mine.yaml, line 3: the key 'a' is there already, in line 1"),
        ("a:\n  b: {c: 1, c: 2}\n", r"mine.yaml, line 2: the key 'c' is there already"),
        ("a: [1, 2\nb: 3\n", r"mine.yaml, line 2: "),
        ("a: 1\n\tb: 2\n", r"mine.yaml, line 2: "),
        ("a: !!python/object/apply:os.system [echo]\n", r"mine.yaml, line 1: could not determine"),
        ("? [1, 2]\n: 3\n? {a: 1}\n: 4\n", r"mine.yaml, line 1: found unhashable key"),
        ("a: *nowhere\n", r"mine.yaml, line 1: found undefined alias"),
        ("a: \x01\n", r"mine.yaml is not YAML: "),
        ("a: 2026-13-45\n", r"mine.yaml is not YAML: month must be in"),
    ],
)
def test_damage_is_named_with_its_line(content: str, sentence: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(content)
    with pytest.raises(documents.BadDocument, match=sentence) as caught:
        documents.read(file)
    assert "\n" not in str(caught.value)
    with pytest.raises(config.ConfigError, match=r"configuration file .*mine\.yaml"):
        config.load(file)


def test_other_encodings_and_folders_are_named(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_bytes("ä: 1".encode("cp1252"))
    with pytest.raises(documents.BadDocument, match=r"mine\.yaml is not UTF-8"):
        documents.read(file)
    with pytest.raises(documents.BadDocument, match="is a folder: name a YAML file"):
        documents.read(tmp_path)


def test_plain_content_is_read_with_merge_keys(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_bytes("\ufeffbase: &b {x: 1, y: 2}\nnew: {<<: *b, x: 3}\n".encode())
    assert documents.read(file)["new"] == {"x": 3, "y": 2}


# Nine lines that are ten thousand million values.
ALIASES = "a0: &a0 [x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 11)
)


@pytest.mark.parametrize(
    "content",
    ["a: &a {b: *a}\n", f"a: {'[' * 2000}{']' * 2000}\n", "2020-01-01: 1\n", ALIASES],
)
def test_content_that_json_cannot_hold_is_one_sentence(content: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(content)
    with pytest.raises(
        config.ConfigError, match=r"mine\.yaml contains itself by an alias, is nested"
    ):
        config.load(file)
