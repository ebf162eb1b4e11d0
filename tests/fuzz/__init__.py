"""The decoders against any bytes."""
