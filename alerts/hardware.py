"""Alerts on what NVML says of the GPUs themselves: XIDs, memory that wears out, links, fans.

What already was an alert before NVML told all this stands in ``rules``: a GPU that is lost, ECC
errors, heat, the power brake.
"""

from __future__ import annotations

from alerts.model import AGO, CARD, GPU_TEXT, PERCENT, TIMES, Alert, Group, at, once
from vgpumonitor.xids import XIDS, XidClass


def _codes(*classes: XidClass) -> str:
    return "|".join(str(code) for code, xid in XIDS.items() if xid.of in classes)


_OF_PROGRAMS = f'xid=~"{_codes("application")}"'
_OF_RESET = f'xid=~"{_codes("reset")}"'
#: And what nobody knows.
_OF_HARDWARE = f'xid!~"{_codes("application", "reset", "information")}"'


def _since_xid(matcher: str) -> str:
    """Seconds since the last, for each GPU and code. The first of all of a code shows here, and
    would not in an increase: its series begins with 1."""
    last = once(f"{CARD}, xid", f"vgpu_device_last_xid_timestamp_seconds{{{matcher}}}")
    return f"time() - {last}"


_XID_TEXT = f"{GPU_TEXT} reported XID {{{{ $labels.xid }}}} {AGO} ago"

_PCIE = "vgpu_device_pcie_link"
#: Errors of NVLink that are made good by sending again, where few are no trouble.
_SENT_AGAIN = "crc_flit|crc_data|replay|receive"


def _below_max(part: str) -> str:
    """The most that the link had in a while, where that is less than it can have. A link slows
    down while it has nothing to do."""
    below = f"max_over_time({_PCIE}_{part}[15m]) < {_PCIE}_{part}_max"
    return f"""\
  label_replace(
    {once(CARD, below)},
    "part", "{part}", "", ""
  )"""


def _nvlink_errors(matcher: str) -> str:
    return once(f"{CARD}, kind", f"increase(vgpu_device_nvlink_errors_total{{{matcher}}}[1h])")


HARDWARE = Group(
    "vgpu.hardware",
    "2m",
    (
        Alert(
            "VgpuCardXidApplication",
            f"{_since_xid(_OF_PROGRAMS)}\n< {at('xid_application_seconds')}",
            "0s",
            "info",
            "platform",
            "A program on a GPU failed",
            f"{_XID_TEXT}: a program on it failed. Other programs go on.",
        ),
        Alert(
            "VgpuCardXidReset",
            f"{_since_xid(_OF_RESET)}\n< {at('xid_seconds')}",
            "0s",
            "critical",
            "platform",
            "A GPU needs a reset",
            f"{_XID_TEXT}: the GPU, or a part of it, works again only after a reset.",
        ),
        Alert(
            "VgpuCardXidHardware",
            f"{_since_xid(_OF_HARDWARE)}\n< {at('xid_seconds')}",
            "0s",
            "critical",
            "platform",
            "A GPU reported an error of its hardware",
            f"{_XID_TEXT}: the GPU, its power or its links may be broken.",
        ),
        Alert(
            "VgpuCardRowRemapPending",
            f"{once(CARD, 'vgpu_device_row_remap_pending')} == 1",
            "15m",
            "warning",
            "platform",
            "A bad memory row of a GPU waits for a reset",
            f"{GPU_TEXT} will take a bad row of its memory out of use when it is reset; until then "
            "programs can meet it.",
        ),
        Alert(
            "VgpuCardRowRemapFailed",
            f"{once(CARD, 'vgpu_device_row_remap_failed')} == 1",
            "5m",
            "critical",
            "platform",
            "A bad memory row of a GPU can't be taken out of use",
            f"{GPU_TEXT} has no spare row left for a bad one of its memory: it has to be replaced.",
        ),
        Alert(
            "VgpuCardPageRetirementPending",
            f"{once(CARD, 'vgpu_device_page_retirement_pending')} == 1",
            "15m",
            "warning",
            "platform",
            "A bad memory page of a GPU waits for a reset",
            f"{GPU_TEXT} will take a bad page of its memory out of use when it is reset or the "
            "driver is loaded again; until then programs can meet it.",
        ),
        Alert(
            "VgpuCardPcieLinkDegraded",
            f"""\
(
{_below_max("generation")}
  or
{_below_max("width")}
)
and on ({CARD})
(
  avg_over_time(card:vgpu_device_core_utilization_ratio:max[15m]) > {at("pcie_load")}
)""",
            "15m",
            "warning",
            "platform",
            "The PCIe link of a busy GPU is slower than it can be",
            f"{GPU_TEXT} is busy and has a PCIe {{{{ $labels.part }}}} of {{{{ $value }}}}, which "
            "is less than it and its slot have: copies to and from it are slow.",
        ),
        Alert(
            "VgpuCardNvlinkErrors",
            f"""\
{_nvlink_errors(f'kind=~"{_SENT_AGAIN}"')}
> {at("nvlink_sent_again")}
or
{_nvlink_errors(f'kind!~"{_SENT_AGAIN}"')}
> {at("nvlink_errors")}""",
            "0s",
            "warning",
            "platform",
            "Errors on the NVLinks of a GPU",
            f"{GPU_TEXT} had {TIMES} errors of the kind {{{{ $labels.kind }}}} on its NVLinks in "
            "an hour.",
        ),
        Alert(
            "VgpuCardFanStopped",
            # Many fans stand still while the GPU is cool, as they should.
            f"""\
{once(f"{CARD}, fan", "max_over_time(vgpu_device_fan_speed_ratio[5m])")} == 0
and on ({CARD})
(
  {once(CARD, "vgpu_device_temperature_celsius")} > {at("fan_celsius")}
)""",
            "5m",
            "critical",
            "platform",
            "A fan of a hot GPU stands still",
            f"{GPU_TEXT} is hot, and its fan {{{{ $labels.fan }}}} is at 0 %.",
        ),
        Alert(
            "VgpuCardFanAtLimit",
            f"""\
{once(f"{CARD}, fan", "avg_over_time(vgpu_device_fan_speed_ratio[30m])")}
> {at("fan_at_limit")}""",
            "15m",
            "warning",
            "platform",
            "A fan of a GPU runs at its limit",
            f"{GPU_TEXT} has run its fan {{{{ $labels.fan }}}} at {PERCENT} for half an hour: it "
            "has no more cooling to give.",
        ),
    ),
)
