"""The table of XIDs."""

from __future__ import annotations

import re
from typing import get_args

import pytest

from vgpumonitor.xids import XIDS, Xid, XidClass, xid_of


@pytest.mark.parametrize(
    ("code", "of"),
    [
        # NVIDIA's catalogue: RESTART_APP.
        *((code, "application") for code in (13, 31, 32, 68, 94)),
        # RESET_GPU.
        *((code, "reset") for code in (46, 62, 95, 109, 110, 119, 120, 140, 143, 156, 158)),
        # RESTART_BM, CHECK_MECHANICALS, WORKFLOW_XID_48, WORKFLOW_NVLINK_ERR.
        *((code, "hardware") for code in (48, 54, 74, 79)),
        # IGNORE.
        *((code, "information") for code in (63, 92, 93)),
    ],
)
def test_classes_are_those_of_nvidias_immediate_action(code: int, of: XidClass) -> None:
    assert xid_of(code).of == of


def test_a_code_that_is_not_in_it_is_unknown() -> None:
    assert xid_of(999).of == xid_of(4711).of == "unknown"
    assert "XID catalogue" in xid_of(999).action


@pytest.mark.parametrize("xid", XIDS.values(), ids=lambda xid: str(xid.code))
def test_each_has_a_meaning_and_sentences_that_say_what_to_do(xid: Xid) -> None:
    assert xid == xid_of(xid.code)
    assert xid.of in get_args(XidClass)
    assert not xid.meaning.endswith(".")
    assert re.fullmatch(r"[A-Zn].*\.", xid.action)
    assert "|" not in xid.meaning + xid.action


def test_codes_are_in_order_and_there_once() -> None:
    assert list(XIDS) == sorted(XIDS)
    assert len(XIDS) > 100
