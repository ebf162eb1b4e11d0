"""HAMi-core's file format: layouts, reader, writer and control words."""
