"""Controllers: what the exporter does to the node besides watching it.

``Feedback`` steers which containers may launch kernels, ``Cleanup`` removes the directories of
pods that are gone. Both read the sources as a scrape does, write on the host, and are off unless
asked for (docs/feedback.md).
"""

from vgpumonitor.controllers.cleanup import Cleanup, CleanupHealth
from vgpumonitor.controllers.feedback import Feedback, FeedbackHealth, Seen

__all__ = ["Cleanup", "CleanupHealth", "Feedback", "FeedbackHealth", "Seen"]
