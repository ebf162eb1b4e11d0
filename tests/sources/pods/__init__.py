"""The pod sources, and annotations and quantities."""
