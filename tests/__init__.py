"""The tests: a package for each of vgpumonitor's, and for what is shipped beside it."""
