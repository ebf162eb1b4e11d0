"""What the exporter does on the host besides exporting, each off unless asked for."""
