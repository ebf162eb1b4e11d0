"""What NVIDIA's XID codes mean, and what to do about each.

An XID is an error that the driver logs (``NVRM: Xid``) and NVML tells as an event. Sources, as of
October 2025: NVIDIA's XID catalogue
(https://docs.nvidia.com/deploy/xid-errors/analyzing-xid-catalog.html), on whose
actions the classes are based, its GPU debug guidelines
(https://docs.nvidia.com/deploy/gpu-debug-guidelines/), and the driver's names of the codes
(nverror.h of NVIDIA/open-gpu-kernel-modules). The catalogue is of Ampere and later, and names no
action from 162 on: those are ours, as all the words are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

#: Who has to act. ``application``: whoever runs the program, the GPU goes on working; ``reset``:
#: the GPU works again only after a reset; ``hardware``: the GPU, its power or its links may be
#: broken; ``information``: nobody, now; ``unknown``: the table does not have the code.
XidClass = Literal["application", "reset", "hardware", "information", "unknown"]

_RESTART = (
    "Restart the program. If it comes back, look for a fault in the program (compute-sanitizer "
    "finds invalid accesses); if different programs have it on this GPU only, test the GPU."
)
_RESTART_ENGINE = (
    "Restart the program. If it comes back, update the driver; if it stays on this GPU, "
    "test the GPU."
)
_RESET = (
    "Drain the GPU, then reset it (nvidia-smi --gpu-reset) or reboot the node. If it comes "
    "back, have the GPU tested."
)
_RESET_SOFTWARE = (
    "Drain the GPU, then reset it (nvidia-smi --gpu-reset) or reboot the node. If it comes back, "
    "update the driver."
)
_NVLINK = (
    "Look at nvidia-smi nvlink --status and --errorcounters. Drain the GPU and reset it together "
    "with those that it is linked to; if it comes back, have GPU and connectors checked."
)
_REPLACE = "Drain the GPU and have it replaced: it has no spare capacity left for repairs."
_NOTHING = "Nothing now."
_FOLLOW = "Look for the XID before it: that one is the cause."


@dataclass(frozen=True, slots=True)
class Xid:
    """``meaning`` and ``action`` are for people; the action is a sentence or several."""

    code: int
    of: XidClass
    meaning: str
    action: str


def _engines(what: str, *codes: int) -> Iterator[Xid]:
    for code in codes:
        yield Xid(code, "application", f"{what} of the GPU stopped with an error", _RESTART_ENGINE)


_KNOWN = (
    Xid(8, "application", "a program's work did not end in time and was stopped", _RESTART),
    Xid(11, "application", "a program sent commands that the GPU can't carry out", _RESTART),
    Xid(
        13,
        "application",
        "a kernel failed: it accessed an invalid address or had an illegal instruction",
        _RESTART,
    ),
    Xid(25, "application", "a program sent commands that the GPU can't carry out", _RESTART),
    Xid(31, "application", "a program accessed GPU memory that it does not have", _RESTART),
    Xid(
        32,
        "application",
        "commands for the GPU arrived damaged, by the program, the driver or the PCIe link",
        _RESTART,
    ),
    Xid(37, "information", "the driver's firmware met a command that it does not know", _NOTHING),
    Xid(38, "information", "the driver's firmware did not answer in time", _NOTHING),
    *_engines("a copy engine", *range(39, 42), *range(70, 73), *range(75, 78), 85),
    *_engines("a copy engine", *range(126, 136)),
    Xid(43, "application", "a program's work failed and was stopped; others go on", _RESTART),
    Xid(44, "information", "the GPU met an error while it changed programs", _NOTHING),
    Xid(
        45,
        "application",
        "a program's work was removed, because the program ended or after an earlier error",
        f"{_FOLLOW} Alone it needs nothing.",
    ),
    Xid(46, "reset", "the GPU stopped working", _RESET),
    Xid(
        48,
        "hardware",
        "an error in the GPU's memory that ECC could not correct",
        "Drain the GPU and reset it, so that the bad row is taken out of use. If it comes "
        "back, or XID 64 follows, have the GPU replaced.",
    ),
    Xid(
        54,
        "hardware",
        "the GPU's auxiliary power is not connected",
        "Check the power cables at the GPU.",
    ),
    *_engines("a video or security engine", 60, 86, 139),
    Xid(62, "reset", "the GPU's power management unit halted", _RESET),
    Xid(
        63,
        "information",
        "a bad row or page of the GPU's memory was taken out of use",
        "Nothing now. It takes effect with the next reset of the GPU, which can wait until the "
        "GPU is free, unless XID 48 or 95 came with it.",
    ),
    Xid(
        64, "hardware", "a bad row or page of the GPU's memory can't be taken out of use", _REPLACE
    ),
    Xid(66, "information", "the driver made an access that is not allowed", _NOTHING),
    Xid(67, "information", "the driver made an access that is not allowed", _NOTHING),
    *_engines("a video decoder", 68, 83, 84, 88, 89, *range(96, 99)),
    Xid(69, "application", "a program set the GPU up in a way that it does not allow", _RESTART),
    Xid(74, "hardware", "an error on an NVLink connection", _NVLINK),
    Xid(
        78,
        "information",
        "a vGPU of NVIDIA's could not start",
        "Check that host and guest have drivers that go together.",
    ),
    Xid(
        79,
        "hardware",
        "the GPU has fallen off the bus: the driver can't reach it any more",
        "Drain the node and switch its power off and on. If it comes back, check the GPU's "
        "seat, power and cooling, and have it replaced.",
    ),
    Xid(80, "application", "data for the GPU arrived damaged", _RESTART),
    *_engines("a JPEG decoder", 82, *range(99, 106)),
    Xid(
        92,
        "information",
        "many errors in the GPU's memory that ECC corrected",
        "Nothing now. Watch for XID 48, 63 and 64.",
    ),
    Xid(93, "information", "the GPU's InfoROM is written more often than it should be", _NOTHING),
    Xid(
        94,
        "application",
        "a memory error that ECC could not correct hit one program; others go on",
        "Restart the program. Reset the GPU when it is free.",
    ),
    Xid(
        95,
        "reset",
        "a memory error that ECC could not correct may have reached every program on the GPU",
        f"{_RESET} Do not trust what was computed on it since.",
    ),
    Xid(106, "information", "a test message of the board's management bus", _NOTHING),
    Xid(107, "information", "a test message of the board's management bus", _NOTHING),
    Xid(109, "reset", "the GPU did not change from one program to another in time", _RESET),
    Xid(110, "reset", "the GPU met a security fault", _RESET_SOFTWARE),
    Xid(
        119,
        "reset",
        "the GPU's system processor (GSP) did not answer the driver in time",
        _RESET_SOFTWARE,
    ),
    Xid(120, "reset", "the GPU's system processor (GSP) failed", _RESET_SOFTWARE),
    Xid(121, "information", "an error on the link between GPU and CPU was corrected", _NOTHING),
    Xid(136, "reset", "an NVLink connection could not be established", _NVLINK),
    Xid(
        137,
        "application",
        "a program made an access through NVLink that is not allowed",
        _RESTART,
    ),
    Xid(140, "reset", "an error in the GPU's memory that ECC could not correct", _RESET),
    Xid(141, "information", "CUDA's fast path met an error", _NOTHING),
    *_engines("a video encoder", 142),
    Xid(143, "reset", "the GPU could not be initialised", _RESET),
    *(
        Xid(code, "hardware", "an error on an NVLink connection", _NVLINK)
        for code in range(144, 151)
    ),
    Xid(
        151,
        "reset",
        "the keys of confidential computing could not be changed",
        "Restart the virtual machine or the node.",
    ),
    Xid(152, "information", "an accelerator (DLA) made an invalid access", _NOTHING),
    Xid(153, "information", "an accelerator (DLA) did not answer in time", _NOTHING),
    Xid(
        154,
        "reset",
        "the driver asks for something to recover the GPU after another XID",
        "nvidia-smi -q says what, under GPU Recovery Action: a reset, a reboot, or to drain it.",
    ),
    Xid(155, "reset", "an NVLink connection was taken down by software", _NVLINK),
    Xid(156, "reset", "a broken part of the GPU is to be taken out of use", _RESET),
    Xid(157, "hardware", "a broken part of the GPU can't be taken out of use", _REPLACE),
    Xid(158, "reset", "the GPU did not answer in time", _RESET),
    Xid(160, "information", "a broken memory channel of the GPU was taken out of use", _NOTHING),
    Xid(161, "hardware", "a broken memory channel can't be taken out of use", _REPLACE),
    Xid(162, "information", "the GPU's power smoothing works again", _NOTHING),
    Xid(163, "information", "the GPU's power smoothing was switched off", _NOTHING),
    Xid(164, "information", "the GPU's power smoothing is nearly worn out", _NOTHING),
    Xid(165, "information", "the GPU's power smoothing is worn out", _NOTHING),
    Xid(167, "hardware", "the GPU did not answer on the PCIe bus in time", _RESET),
    Xid(169, "reset", "the GPU's security processor halted", _RESET),
    Xid(
        171,
        "hardware",
        "XID 48 was in the GPU's memory (DRAM)",
        "Do what XID 48 asks for.",
    ),
    Xid(
        172,
        "hardware",
        "XID 48 was in the GPU's caches or registers (SRAM)",
        "Do what XID 48 asks for. If nvidia-smi -q -d ECC says SRAM Threshold Exceeded, have "
        "the GPU replaced.",
    ),
)

#: By code.
XIDS = {xid.code: xid for xid in sorted(_KNOWN, key=lambda xid: xid.code)}


def xid_of(code: int) -> Xid:
    """What the code means, also where the table does not have it. NVML gives 999 for what it
    does not know itself (nvml.h, nvmlEventData_t)."""
    return XIDS.get(code) or Xid(
        code,
        "unknown",
        "an error that this version of vgpumonitor does not know",
        "Look it up in NVIDIA's XID catalogue, and in the kernel's log: dmesg -T | grep -i xid.",
    )
