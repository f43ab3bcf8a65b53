"""Parts of a long benchmark, kept as they finish, so that a run that was stopped goes on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lqf.files import replaced

FOLDER = Path("runs/benchmarks")


def cell(settings: Mapping[str, Any], make: Callable[[], Any]) -> Any:
    """What ``make`` returns (as JSON has it), from the file of an earlier run if there is one.

    Args:
        settings: everything the result depends on; delete `FOLDER` after a change of the code.
        make: computes the result.
    """
    key = json.dumps(settings, sort_keys=True)
    name = hashlib.sha256(key.encode()).hexdigest()[:24]
    path = FOLDER / f"{name}.json"
    if path.is_file():
        return json.loads(path.read_text())["result"]
    result = json.loads(json.dumps(make()))
    with replaced(path) as temporary:
        temporary.write_text(json.dumps({"settings": settings, "result": result}))
    return result
