"""What the exporter does besides exporting, each off unless asked for: both write on the host."""

from vgpumonitor.actions.cleanup import Gc, GcHealth
from vgpumonitor.actions.feedback import Feedback, FeedbackHealth

__all__ = ["Feedback", "FeedbackHealth", "Gc", "GcHealth"]
