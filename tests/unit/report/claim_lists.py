"""The claims of the paper-scale config, which every scale shares."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

CONFIG = Path(__file__).parents[3] / "config" / "config.yaml"
CLAIMS: list[dict[str, Any]] = yaml.safe_load(CONFIG.read_text("utf-8"))["claims"]
