"""The exporter as a process, from files and a driver to what it serves."""
