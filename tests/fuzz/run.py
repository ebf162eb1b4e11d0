"""``python -m tests.fuzz.run TARGET [SECONDS]``: atheris over one of the targets.

Coverage guides it, from the corpus on. Inputs that reach something new go to a directory of
their own, which the first line names; what fails is written there as ``crash-…``, and the
status is not 0. Those worth keeping belong into the corpus.
"""

from __future__ import annotations

import sys
import tempfile

import atheris  # type: ignore[import-untyped]

with atheris.instrument_imports(include=["vgpumonitor"]):
    from tests.fuzz.targets import CORPUS, TARGETS


def main() -> None:
    if len(sys.argv) not in (2, 3) or sys.argv[1] not in TARGETS:
        raise SystemExit(f"usage: python -m tests.fuzz.run {'|'.join(TARGETS)} [SECONDS]")
    name, seconds = sys.argv[1], sys.argv[2] if len(sys.argv) == 3 else "60"
    found = tempfile.mkdtemp(prefix=f"fuzz-{name}-")
    print(f"new inputs and failures go to {found}", flush=True)
    atheris.Setup(
        [
            sys.argv[0],
            f"-max_total_time={seconds}",
            f"-artifact_prefix={found}/",
            "-len_control=0",
            "-max_len=4096",
            "-print_final_stats=1",
            found,
            str(CORPUS / name),
        ],
        TARGETS[name],
    )
    atheris.Fuzz()


if __name__ == "__main__":
    main()
