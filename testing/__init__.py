"""What tests and benchmarks share: running exporters, other programs, and values."""
