"""The families, against the metric contract, and the exposition."""
