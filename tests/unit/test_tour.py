from pathlib import Path

import pytest

from lqf.tour import main

NOTEBOOK = """
# %% [markdown]
# # A title

# %%
from IPython.display import Image
print(6 * 7)
"""


def test_page_holds_text_and_outputs_and_loads_nothing(tmp_path: Path) -> None:
    notebook, page = tmp_path / "one.py", tmp_path / "deep" / "one.html"
    notebook.write_text(NOTEBOOK)

    assert main([str(notebook), str(page)]) == 0

    text = page.read_text("utf-8")
    assert "A title" in text
    assert "42" in text
    assert 'src="http' not in text
    assert "cdnjs" not in text


def test_failing_cell_fails_and_leaves_no_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    notebook, page = tmp_path / "one.py", tmp_path / "one.html"
    notebook.write_text(NOTEBOOK + "raise ArithmeticError('out of numbers')\n")

    assert main([str(notebook), str(page)]) == 1

    assert "out of numbers" in capsys.readouterr().err
    assert [file.name for file in tmp_path.iterdir()] == ["one.py"]


def test_missing_notebook_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "none.py"), str(tmp_path / "page.html")]) == 1

    assert "none.py" in capsys.readouterr().err
