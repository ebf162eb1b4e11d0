"""``python -m dashboards.generate``: writes NAME.json from each NAME.dashboard.py beside it."""

from __future__ import annotations

import io
from pathlib import Path

from grafanalib._gen import DASHBOARD_SUFFIX, loader, write_dashboard

DIRECTORY = Path(__file__).parent


def files() -> dict[str, str]:
    """The text of each dashboard's JSON, by its file's name."""
    texts = {}
    for source in sorted(DIRECTORY.glob(f"*{DASHBOARD_SUFFIX}")):
        text = io.StringIO()
        write_dashboard(loader(str(source)), text)
        texts[source.name.removesuffix(DASHBOARD_SUFFIX) + ".json"] = text.getvalue()
    return texts


if __name__ == "__main__":
    for name, text in files().items():
        (DIRECTORY / name).write_text(text)
