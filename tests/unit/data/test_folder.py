import json
from pathlib import Path

from lqf.data.folder import problems


def folder(tmp_path: Path, rows: list[tuple[str, str]]) -> Path:
    lines = ["row,class,label,split,source,sha256"]
    lines += [f"{n},{name},0,{split},here,0" for n, (name, split) in enumerate(rows)]
    (tmp_path / "index.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "dataset.json").write_text(json.dumps({"classes": ["cat", "dog"]}))
    return tmp_path


WHOLE = [(name, split) for name in ("cat", "dog") for split in ("train", "val", "test")]


def test_an_empty_class_is_named_with_its_split(tmp_path: Path) -> None:
    (said,) = problems(folder(tmp_path, [r for r in WHOLE if r != ("dog", "val")]))

    assert "no image of class 'dog' in split 'val'" in said
    assert "1 of 2 classes" in said


def test_a_damaged_description_is_told(tmp_path: Path) -> None:
    (folder(tmp_path, WHOLE) / "dataset.json").write_text("{")

    (said,) = problems(tmp_path)

    assert "is damaged" in said


def test_a_whole_data_set_and_one_not_yet_prepared_have_no_problem(tmp_path: Path) -> None:
    assert not list(problems(folder(tmp_path, WHOLE)))
    assert not list(problems(tmp_path / "nowhere"))
