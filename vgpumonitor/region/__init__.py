"""HAMi-core's shared-region file format: its layouts, a reader and a writer."""
