"""The frame format between a proxy and a worker, shared by both sides.

A frame is a HEADER and then `length` bytes: one or more sections. A section carries tensors of one batch:

    SECTION (u32 signature size, u32 tensor count, u32 rows), u32 byte size of each tensor, signature, tensors' bytes

The signature is JSON, `[["X","FP32",[30]], ...]`: name, datatype (the protocol's word), shape. When the pool is
batched the shape leaves out axis 0, which is `rows`; else it is whole and `rows` is 1. Equal signatures are equal
bytes, so that both sides parse each only once. It may end in spaces: a sender that pads it so that the tensors begin at
a multiple of 8 saves the receiver a copy. Tensors are row-major little-endian; BOOL is one byte; BYTES elements are u32
length + payload.

    RUN        proxy -> worker   one section: inputs; `micros` is the deadline, see `deadline_ms`; flag TELL: see BEGUN
    COMPARE    proxy -> worker   two sections: inputs, and what production answered to them (all outputs it sent)
    CANCEL     proxy -> worker   nothing; nobody waits for the RUN of this number any more: if it has not begun, the
                                 worker answers it with an ERROR of code 1 instead; else nothing happens
    RESULT     worker -> proxy   one section: all outputs, in the model's order; `micros` inside ONNX Runtime
    COMPARED   worker -> proxy   a COMPARISON
    ERROR      worker -> proxy   UTF-8 text for the caller; `flags` is the gRPC code (3 input refused, 13 model failed;
                                 not run: 1 cancelled, 4 its deadline had passed)
    BEGUN      worker -> proxy   nothing; the RUN of this number, which had the flag TELL, is about to be run: if the
                                 worker dies now, of this one
    ALIVE      worker -> proxy   nothing, and `batch` is 0; what this proxy sent has waited for what others sent, and
                                 waits further or is run now: the worker does not hang

Frames of one connection are answered in order, each with its own `batch` number. CANCEL has no answer.

Large sections need not travel: proxy and worker may share memory (see `workers.memory`), cut into slots, each with a
place for what the proxy sends and one for the answer. The proxy offers it with its first frame:

    ATTACH     proxy -> worker   a MEMORY, and the descriptor with it (SCM_RIGHTS)
    ATTACH     worker -> proxy   nothing; `flags` is 1 when the worker takes part, 0 when it cannot

From then on a RUN or COMPARE frame may lend the worker a slot: `slot` is its number, from 1, until it is answered. With
SLOT in `flags` the sections lie in that slot, and in the frame is only a PLACE that says where; an answer likewise.
"""

import struct
from functools import cache
from typing import Final

HEADER: Final = struct.Struct("<IIBBHI")
"""length of what follows, batch, kind, flags, slot, micros"""
KIND_AT: Final = 8
FLAGS_AT: Final = 9
"""Where in a HEADER these are."""
SECTION: Final = struct.Struct("<III")
"""signature size, tensor count, rows"""
SIZE: Final = struct.Struct("<I")
COMPARISON: Final = struct.Struct("<IIIId")
"""rows compared, rows that agree, 1 if the answers have other names, dtypes or shapes (then nothing was compared),
zero, maximum absolute difference over floating-point outputs"""


@cache
def front(tensors: int) -> struct.Struct:
    """HEADER, SECTION and the size of each of so many tensors: all the numbers a frame with one section begins with."""
    return struct.Struct(HEADER.format + SECTION.format.lstrip("<") + f"{tensors}I")


MEMORY: Final = struct.Struct("<IIQ")
"""slots, the size above which an answer is to be put into its slot, bytes of each place of a slot"""
PLACE: Final = struct.Struct("<II")
"""begin and end of the sections in their slot"""

RUN: Final = 1
COMPARE: Final = 2
RESULT: Final = 3
COMPARED: Final = 4
ERROR: Final = 5
CANCEL: Final = 6
BEGUN: Final = 7
ATTACH: Final = 8
ALIVE: Final = 9

SLOT: Final = 1
"""In `flags`, but of an ERROR: the sections lie in the frame's slot."""
TELL: Final = 0x80
"""Flag of a RUN: answer with BEGUN before it is run."""

MAX_FRAME_BYTES: Final = 0xFFFF_FFFF

FIXED_SIZES: Final[dict[str, int]] = {
    "BOOL": 1,
    "UINT8": 1,
    "UINT16": 2,
    "UINT32": 4,
    "UINT64": 8,
    "INT8": 1,
    "INT16": 2,
    "INT32": 4,
    "INT64": 8,
    "FP16": 2,
    "BF16": 2,
    "FP32": 4,
    "FP64": 8,
}
"""Bytes per element; BYTES has none."""

_WRAP: Final = 1 << 32
_FAR_MS: Final = 1 << 31
"""Half of what the field holds, 24 days: a deadline that is further away is none."""


def deadline_ms(deadline_s: float, now_s: float) -> int:
    """Until when an answer is wanted, as RUN carries it: CLOCK_MONOTONIC in ms modulo 2**32; 0: for ever.

    Rounded up: what is late by it is late by the clock.
    """
    if not deadline_s - now_s < _FAR_MS / 1000:
        return 0
    return (int(deadline_s * 1000) + 1) % _WRAP or 1


def is_late(deadline_ms: int, now_s: float) -> bool:
    """Whether that time has come."""
    return deadline_ms != 0 and (int(now_s * 1000) - deadline_ms) % _WRAP < _FAR_MS


def section(signature: bytes, rows: int, tensors: list[bytes]) -> list[bytes]:
    """The pieces of one section, to be joined behind a HEADER. Tensors are not copied."""
    sizes = struct.pack(f"<{len(tensors)}I", *map(len, tensors))
    return [SECTION.pack(len(signature), len(tensors), rows), sizes, signature, *tensors]
