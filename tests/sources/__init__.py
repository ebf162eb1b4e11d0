"""The sources, each alone."""
