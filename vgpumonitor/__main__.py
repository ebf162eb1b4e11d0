"""``python -m vgpumonitor``."""

from vgpumonitor.cli import main

if __name__ == "__main__":
    main()
