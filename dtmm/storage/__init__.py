"""How weights lie in flash: encode, decode and size of every format (numpy only)."""

from __future__ import annotations

from dtmm.storage.container import (
    FwcsSize,
    expanded_bytes,
    fwcs_blob_size,
    read_fwcs,
    write_fwcs,
)
from dtmm.storage.dense import Dense, decode_dense, dense_size, encode_dense, encode_im2col
from dtmm.storage.formats import FORMATS, Stored, WeightFormat, decode, weight_format
from dtmm.storage.fwcs import Fwcs, decode_fwcs, encode_fwcs, fwcs_size
from dtmm.storage.parameters import folded_bias, pack_channel_params
from dtmm.storage.scratch import dense_scratch, depthwise_scratch, fwcs_scratch, im2col_scratch
from dtmm.storage.stored import StorageSize

__all__ = [
    "FORMATS",
    "Dense",
    "Fwcs",
    "FwcsSize",
    "StorageSize",
    "Stored",
    "WeightFormat",
    "decode",
    "decode_dense",
    "decode_fwcs",
    "dense_scratch",
    "dense_size",
    "depthwise_scratch",
    "encode_dense",
    "encode_fwcs",
    "encode_im2col",
    "expanded_bytes",
    "folded_bias",
    "fwcs_blob_size",
    "fwcs_scratch",
    "fwcs_size",
    "im2col_scratch",
    "pack_channel_params",
    "read_fwcs",
    "weight_format",
    "write_fwcs",
]
