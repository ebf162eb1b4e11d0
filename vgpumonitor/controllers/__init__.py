"""What the exporter does besides exporting, each off unless asked for: both write on the host."""

from vgpumonitor.controllers.cleanup import Cleanup, CleanupHealth
from vgpumonitor.controllers.feedback import Feedback, FeedbackHealth

__all__ = ["Cleanup", "CleanupHealth", "Feedback", "FeedbackHealth"]
