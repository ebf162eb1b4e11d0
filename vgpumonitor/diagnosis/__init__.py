"""What is wrong with a node and how to mend it: a pure function of its snapshot.

``kinds`` is all that can be wrong, in words; ``rules`` says what of it a snapshot shows;
``examination`` what the command ``doctor`` sees besides, which a running exporter can't or should
not look at.
"""

from vgpumonitor.diagnosis.examination import Examination, ExporterFound, Library
from vgpumonitor.diagnosis.kinds import KINDS, SEVERITIES, Kind, Severity
from vgpumonitor.diagnosis.model import Finding, Seen, in_a_line
from vgpumonitor.diagnosis.rules import findings

__all__ = [
    "KINDS",
    "SEVERITIES",
    "Examination",
    "ExporterFound",
    "Finding",
    "Kind",
    "Library",
    "Seen",
    "Severity",
    "findings",
    "in_a_line",
]
