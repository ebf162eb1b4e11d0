"""The past that testing/history.py writes, in a real Prometheus."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import yaml

from testing.history import CONFIG, FLAG, spans, write_history
from testing.prometheus import prometheus
from testing.remote_write import write

pytestmark = pytest.mark.slow


def test_a_rule_whose_series_take_turns_writes_one(tmp_path: Path) -> None:
    """A range query has both sides of its "or", one of which keeps its name."""
    past = spans(int(time.time()), 1 / 24)
    times = list(past[0].times)
    there = [place % 10 < 7 for place in range(len(times))]
    for name, rule in (
        ("recording", {"record": "level:seen", "expr": "seen * 2 or (level == 0)"}),
        ("alerts", {"alert": "Low", "expr": "seen < 5 or (level == 0)", "for": "50m"}),
    ):
        groups = {"groups": [{"name": name, "interval": "1m", "rules": [rule]}]}
        (tmp_path / f"{name}.rules.yaml").write_text(yaml.safe_dump(groups))
    data = f"--storage.tsdb.path={tmp_path}/data"
    with prometheus(tmp_path / "prometheus", CONFIG, data, FLAG) as source:
        seen = [
            (when, 4.0 if is_there else None) for when, is_there in zip(times, there, strict=True)
        ]
        level = [(when, 0.0) for when in times]
        labels = {"node": "a"}
        write(
            source.url,
            [({**labels, "__name__": "seen"}, seen), ({**labels, "__name__": "level"}, level)],
        )
        write_history(source, {}, past, tmp_path)

        def recorded(query: str) -> list[tuple[float, float]]:
            bounds = {"start": str(times[0]), "end": str(times[-1]), "step": "60"}
            [series] = source.get("/api/v1/query_range", query=query, **bounds)["result"]
            return [(when, float(value)) for when, value in series["values"]]

        values = [8.0 if is_there else 0.0 for is_there in there]
        assert recorded("level:seen") == list(zip(times, values, strict=True))
        assert recorded("ALERTS_FOR_STATE") == [(when, float(times[0])) for when in times]
        assert [when for when, _ in recorded('ALERTS{alertstate="firing"}')] == times[50:]
