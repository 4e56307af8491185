"""Random FWCS layers and damaged blobs, from a numpy generator: a seed replays them."""

from __future__ import annotations

import struct

import numpy as np
import numpy.typing as npt

from dtmm.storage import Fwcs, encode_fwcs
from dtmm.storage.container import FORMS, seal_fwcs, write_fwcs

Rng = np.random.Generator
KERNELS = [(1, 1), (3, 3), (3, 3), (1, 7), (5, 5), (2, 4), (10, 4), (2, 2)]

HEADER_FIELDS = {  # offset and struct code, from docs/fwcs.md
    "magic": (0, "I"),
    "crc": (4, "I"),
    "size": (8, "I"),
    "version": (12, "B"),
    "flags": (13, "B"),
    "kernel_h": (14, "B"),
    "kernel_w": (15, "B"),
    "out_channels": (16, "H"),
    "in_channels": (18, "H"),
    "in_stride": (20, "H"),
    "channel_block": (22, "H"),
}

HEADER_BYTES = 24


def random_layer(rng: Rng) -> tuple[Fwcs, npt.NDArray[np.int32]]:
    """Weights (some filterlets pruned) and parameters of one small layer."""
    kernel = KERNELS[rng.integers(len(KERNELS))]
    c_out, c_in = int(rng.integers(1, 12)), int(rng.integers(1, 40))
    in_stride = 16 * int(rng.integers(-(-c_in // 16), 4))
    weights = rng.integers(-127, 128, (c_out, *kernel, c_in), dtype=np.int8)
    weights[rng.random((c_out, *kernel)) >= rng.choice([0.0, 0.1, 0.5, 1.0])] = 0
    fwcs = encode_fwcs(weights, in_stride)
    params = np.stack(
        [
            rng.integers(-(2**31), 2**31, c_out),
            rng.integers(0, 2**31, c_out),
            rng.integers(-31, 31, c_out),
        ],
        axis=1,
    ).astype(np.int32)
    return fwcs, params


def random_blob(rng: Rng) -> bytes:
    """A well-formed blob of either form."""
    return write_fwcs(*random_layer(rng), FORMS[rng.integers(2)])


def _set_field(rng: Rng, blob: bytearray) -> None:
    """Overwrites a header field by a value that is likely to be wrong in an interesting way."""
    offset, code = list(HEADER_FIELDS.values())[rng.integers(2, len(HEADER_FIELDS))]
    [value] = struct.unpack_from(f"<{code}", blob, offset)
    largest = 256 ** struct.calcsize(code) - 1
    choices = [0, 1, 16, 255, largest, largest // 2, value + 1, value - 1, value * 2, value ^ 3]
    choices += [value + 16, value ^ 1 << int(rng.integers(8)), int(rng.integers(largest + 1))]
    new = choices[rng.integers(len(choices))] & largest
    struct.pack_into(f"<{code}", blob, offset, new)


def _flip_bits(rng: Rng, blob: bytearray) -> None:
    for _ in range(rng.integers(1, 4)):
        blob[rng.integers(len(blob))] ^= 1 << int(rng.integers(8))


def _set_tail(rng: Rng, blob: bytearray) -> None:
    """The end of a blob holds its masks and shifts."""
    back = int(rng.integers(1, min(len(blob), 12) + 1))
    blob[-back] = int(rng.choice([0, 1, 127, 128, 255, int(rng.integers(256))]))


def _set_bytes(rng: Rng, blob: bytearray) -> None:
    at = int(rng.integers(len(blob)))
    count = min(int(rng.integers(1, 5)), len(blob) - at)
    blob[at : at + count] = rng.bytes(count)


def _resize(rng: Rng, blob: bytearray) -> None:
    change = int(rng.choice([1, 2, 4, 16, int(rng.integers(1, 64))]))
    if rng.random() < 0.5:
        del blob[max(len(blob) - change, 0) :]
    else:
        blob += rng.bytes(change)
    if rng.random() < 0.7 and len(blob) >= 12:
        struct.pack_into("<I", blob, 8, len(blob))


DAMAGES = (_set_field, _flip_bits, _set_tail, _set_bytes, _resize)


def damaged(rng: Rng, blob: bytes) -> bytes:
    """`blob` after one or two mutations, mostly with its CRC made right again, so that the checks
    behind the CRC see them."""
    changed = bytearray(blob)
    for _ in range(1 + (rng.random() < 0.2)):
        if len(changed) >= HEADER_BYTES:
            DAMAGES[rng.integers(len(DAMAGES))](rng, changed)
    if rng.random() < 0.8 and len(changed) >= 8:
        return seal_fwcs(bytes(changed))
    return bytes(changed)


def raw_blob(
    shape: tuple[int, int, int, int], in_stride: int, prepared: bool, body: bytes
) -> bytes:
    """Any header, with size and CRC that fit, before any body. `shape` is [C_out, kh, kw, C_in]."""
    c_out, kh, kw, c_in = shape
    size = HEADER_BYTES + len(body)
    fields = (size, 1, int(prepared), kh, kw, c_out, c_in, in_stride, c_in)
    return seal_fwcs(b"FWCS" + bytes(4) + struct.pack("<IBBBBHHHH", *fields) + body)


def _params(filters: int, prepared: bool, multiplier: int = 1 << 30, shift: int = -3) -> bytes:
    numbers = np.tile(np.array([[5, multiplier, shift]], np.int64), (filters, 1))
    if prepared:
        return numbers.astype("<i4").tobytes()
    return numbers[:, :2].T.astype("<i4").tobytes() + numbers[:, 2].astype(np.int8).tobytes()


def crafted() -> dict[str, tuple[bytes, bool]]:
    """Blobs whose sections are as consistent as can be, and whether a reader takes them."""
    cases = {}
    for form, prepared in (("stored", False), ("prepared", True)):

        def blob(
            shape: tuple[int, int, int, int],
            kept: int,
            masks: bytes,
            prepared: bool = prepared,
            in_stride: int = 16,
            **params: int,
        ) -> bytes:
            weights = bytes(kept * (in_stride if prepared else shape[3]))
            body = weights + _params(shape[0], prepared, **params) + masks
            return raw_blob(shape, in_stride, prepared, body)

        cases |= {
            f"{form}: smallest": (blob((1, 1, 1, 1), 1, b"\1"), True),
            f"{form}: nothing kept": (blob((1, 1, 1, 1), 0, b"\0"), True),
            f"{form}: kernel height 0": (blob((2, 0, 3, 2), 0, b""), False),
            f"{form}: kernel width 0": (blob((2, 3, 0, 2), 0, b""), False),
            f"{form}: C_out 0": (blob((0, 3, 3, 2), 0, b""), False),
            f"{form}: C_in 0": (blob((1, 1, 1, 0), 0, b"\0"), False),
            f"{form}: C_in and in_stride 0": (blob((1, 1, 1, 0), 0, b"\0", in_stride=0), False),
            f"{form}: largest multiplier": (
                blob((1, 1, 1, 1), 1, b"\1", multiplier=2**31 - 1),
                True,
            ),
            f"{form}: negative multiplier": (blob((1, 1, 1, 1), 1, b"\1", multiplier=-1), False),
        }
        for shift, fits in ((30, True), (31, False), (-31, True), (-32, False)):
            cases[f"{form}: shift {shift}"] = (blob((1, 1, 1, 1), 1, b"\1", shift=shift), fits)
    # a stray bit 9 in the first mask; wrapped around, the counts would add up
    cases["prepared: stray bit"] = (blob((2, 3, 3, 2), 2, b"\0\2\7\0", True), False)
    cases["prepared: last bit"] = (blob((2, 3, 3, 2), 2, b"\0\1\1\0", True), True)
    ones = bytes([255]) * (33000 // 8)
    cases["stored: 33,000 filterlets of 65,520 bytes"] = (
        blob((33000, 1, 1, 1), 33000, ones, False, 65520),
        False,
    )
    cases["stored: 33,000 filterlets of 16 bytes"] = (
        blob((33000, 1, 1, 1), 33000, ones, False, 16),
        True,
    )
    return cases
