"""What an expression of PromQL names."""

from __future__ import annotations

import re

from vgpumonitor.metrics.sets import SETS, families_for

_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_COMMENT = re.compile(r"#.*")
_LABELS = re.compile(r"\b(?:by|on|without|ignoring|group_left|group_right)\s*\([^)]*\)")
_NAME = re.compile(r"\b(?:\w+:)?(?:vgpu|vgpumonitor|hami|vGPU|Device|Host|Mig)\w*(?::\w+)?\b")

#: Families of every set, and what the exporter says about itself.
FAMILIES = {family.name for family in families_for("all", process_metrics=True)}
DOCUMENTED = {family.name for family in SETS["documented"]}
#: Its byte counts are labels: each allocation makes a new series.
UNUSABLE = "Device_memory_desc_of_container"


def names(expr: str) -> set[str]:
    """The families and recording rules of this project in ``expr``."""
    bare = _LABELS.sub("", _COMMENT.sub("", _STRING.sub('""', expr)))
    return set(_NAME.findall(bare))
