"""The node that isn't there."""
