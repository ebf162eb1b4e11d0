"""The chart as helm renders it, the compose stack, and the image's files."""
