"""`vgpumonitor doctor`, as a process and on the traces that it looks for."""
