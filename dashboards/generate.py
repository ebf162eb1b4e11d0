"""``python -m dashboards.generate``: writes NAME.json from each NAME.dashboard.py beside it."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

from dashboards.schema import put_right

DIRECTORY = Path(__file__).parent
SUFFIX = ".dashboard.py"


def _plain(value: Any) -> Any:
    """What grafanalib's objects say of themselves."""
    return value.to_json_data()


def files() -> dict[str, str]:
    """The text of each dashboard's JSON, by its file's name."""
    texts = {}
    for source in sorted(DIRECTORY.glob(f"*{SUFFIX}")):
        dashboard = runpy.run_path(str(source))["dashboard"]
        plain = json.loads(json.dumps(dashboard, default=_plain))
        texts[source.name.removesuffix(SUFFIX) + ".json"] = (
            json.dumps(put_right(plain), indent=2) + "\n"
        )
    return texts


if __name__ == "__main__":
    for name, text in files().items():
        (DIRECTORY / name).write_text(text)
