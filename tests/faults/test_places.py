"""Disks that are full, folders that may not be written, files that may not be read, data that goes away."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lqf.data.packed import PackedDataset
from lqf.data.prepare import prepare

WRITERS = {
    "prepare": "from lqf import cli; code = cli.main(['prepare', '--name', 'mine', '--output', out + '/mine',"
    " '--workers', '1', '--settings', settings])",
    "saved model": "import torch; from lqf.fitted import stored;"
    " code = guarded(lambda: stored.write(out + '/m.lqf', {'a': torch.zeros(99)}, {}))",
    "backbone": "import torch; from lqf.files import replaced; from lqf.networks.weights import write_state\n"
    "def write():\n"
    "    with replaced(Path(out, 'relu.safetensors')) as file:\n"
    "        write_state(file, {'a': torch.zeros(99)}, {})\n"
    "code = guarded(write)",
    "rows of a run": "from lqf import run;"
    " code = guarded(lambda: run.write_rows(Path(out, 'metrics.csv'), [{'dataset': 'x'}]))",
}
"""What is written, and a program that writes it into the folder `out`."""

PRELUDE = """
import argparse, sys
from pathlib import Path
from lqf.cli import _guarded
settings, out = sys.argv[1:3]
def guarded(write):
    return _guarded(argparse.Namespace(command="write", run=lambda options: write()))
"""

# Root may do all of it, unless it gives up the capability to.
_AS_ANYBODY = (
    ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.getuid() == 0 else []
)
needs_setpriv = pytest.mark.skipif(
    bool(_AS_ANYBODY) and not shutil.which("setpriv"), reason="root without setpriv may do all"
)
needs_mount = pytest.mark.skipif(
    os.getuid() != 0 or not shutil.which("unshare"), reason="mounting needs root"
)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Of a small data set to be prepared."""
    folder = tmp_path_factory.mktemp("images")
    for number in range(6):
        file = folder / "train" / f"class{number % 2}" / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((16, 16, 3), 40 * number, np.uint8)).save(file)
    own = {"folder": str(folder), "test": 0.3, "validation": 0.3}
    return json.dumps({"image_size": 16, "own": own})


@needs_mount
@pytest.mark.parametrize("what", WRITERS)
def test_a_full_disk_is_one_sentence_and_leaves_nothing_half_written(
    what: str, settings: str, tmp_path: Path
) -> None:
    script = (
        'mount -t tmpfs -o size=4k none "$1" || exit 77; head -c 4096 /dev/zero >"$1/filler"; '
        '"$2" -c "$3" "$4" "$1"; echo "code $?"; ls -A "$1"'
    )
    program = f"{PRELUDE}\n{WRITERS[what]}\nsys.exit(code)"

    done = subprocess.run(
        ["unshare", "--mount", "bash", "-c", script, "-", tmp_path, sys.executable, program, settings],
        text=True, capture_output=True, check=False, timeout=300,
    )  # fmt: skip

    if done.returncode == 77:
        pytest.skip("no tmpfs can be mounted here")
    assert done.stdout.endswith("code 1\nfiller\n"), done.stdout + done.stderr
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr


@needs_setpriv
@pytest.mark.parametrize("what", WRITERS)
def test_a_folder_that_may_not_be_written_is_one_sentence(
    what: str, settings: str, tmp_path: Path
) -> None:
    tmp_path.chmod(0o500)
    program = f"{PRELUDE}\n{WRITERS[what]}\nsys.exit(code)"

    done = subprocess.run(
        [*_AS_ANYBODY, sys.executable, "-c", program, settings, tmp_path],
        text=True, capture_output=True, check=False, timeout=300,
    )  # fmt: skip

    tmp_path.chmod(0o700)
    assert done.returncode == 1, done.stderr
    assert "Permission denied" in done.stderr
    assert "see that this user may read and write there" in done.stderr
    assert str(tmp_path) in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


@needs_setpriv
def test_a_file_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    prepare("styles", tmp_path / "styles", 16)
    (tmp_path / "styles" / "images.npy").chmod(0)
    program = f"{PRELUDE}\nfrom lqf.data.packed import PackedDataset\n"
    program += "sys.exit(guarded(lambda: PackedDataset.load(out)))"

    done = subprocess.run(
        [*_AS_ANYBODY, sys.executable, "-c", program, "", tmp_path / "styles"],
        text=True, capture_output=True, check=False, timeout=300,
    )  # fmt: skip

    assert done.returncode == 1, done.stderr
    assert "Permission denied" in done.stderr
    assert "images.npy" in done.stderr
    assert "Traceback" not in done.stderr


def test_data_that_goes_away_during_a_job_is_read_to_its_end_or_named(tmp_path: Path) -> None:
    prepare("styles", tmp_path / "styles", 16)
    data = PackedDataset.load(tmp_path / "styles")
    before = data.images[:].copy()

    (tmp_path / "styles").rename(tmp_path / "elsewhere")

    # Opened once, it is there as long as the job; a job that opens it again is told.
    assert np.array_equal(data.images, before)
    with pytest.raises(ValueError, match=r"no data set in .*styles: dataset.json is missing; run"):
        PackedDataset.load(tmp_path / "styles")
    (tmp_path / "elsewhere").rename(tmp_path / "styles")
    assert np.array_equal(PackedDataset.load(tmp_path / "styles").images, before)
