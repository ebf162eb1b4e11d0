"""``python -m tests.gpu.cuda BYTES [busy|fault]``: a process that holds memory of GPU 0.

Prints ``ready`` when it holds it. ``busy`` keeps the GPU's cores busy from then on; ``fault``
writes to an address that it doesn't have when standard input ends, for which the driver stops it
and reports an XID. Only libcuda.so.1 is needed, which comes with the driver.
"""

from __future__ import annotations

import ctypes
import sys
import time
from typing import Any

#: ``spin`` runs for so many clock cycles, ``store`` writes where it is told.
_PTX = b"""
.version 6.4
.target sm_70
.address_size 64
.visible .entry spin(.param .u64 cycles)
{
    .reg .u64 %begin, %now, %cycles;
    .reg .pred %goes_on;
    ld.param.u64 %cycles, [cycles];
    mov.u64 %begin, %clock64;
again:
    mov.u64 %now, %clock64;
    sub.u64 %now, %now, %begin;
    setp.lt.u64 %goes_on, %now, %cycles;
    @%goes_on bra again;
    ret;
}
.visible .entry store(.param .u64 address)
{
    .reg .u64 %address;
    ld.param.u64 %address, [address];
    st.global.u64 [%address], %address;
    ret;
}
"""

_cuda = ctypes.CDLL("libcuda.so.1")


def _call(name: str, *arguments: Any) -> None:
    result = getattr(_cuda, name)(*arguments)
    if result:
        raise OSError(f"{name} returned {result}")


def _launch(module: ctypes.c_void_p, name: bytes, argument: int) -> None:
    function = ctypes.c_void_p()
    _call("cuModuleGetFunction", ctypes.byref(function), module, name)
    value = ctypes.c_uint64(argument)
    arguments = (ctypes.c_void_p * 1)(ctypes.cast(ctypes.byref(value), ctypes.c_void_p))
    # 256 blocks of 32 threads: some on each multiprocessor.
    _call("cuLaunchKernel", function, 256, 1, 1, 32, 1, 1, 0, None, arguments, None)


def main() -> None:
    size, does = int(sys.argv[1]), sys.argv[2:]
    _call("cuInit", 0)
    context, module, memory = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_uint64()
    _call("cuDevicePrimaryCtxRetain", ctypes.byref(context), 0)
    _call("cuCtxSetCurrent", context)
    _call("cuMemAlloc_v2", ctypes.byref(memory), ctypes.c_size_t(size))
    _call("cuModuleLoadData", ctypes.byref(module), _PTX)
    print("ready", flush=True)
    while does == ["busy"]:
        _launch(module, b"spin", 100_000_000)
        _call("cuCtxSynchronize")
    if does == ["fault"]:
        sys.stdin.read()
        _launch(module, b"store", 0x10)
        _call("cuCtxSynchronize")
    time.sleep(3600)


if __name__ == "__main__":
    main()
