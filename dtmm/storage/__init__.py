"""How weights lie in flash: encode, decode and size of every format (numpy only)."""

from __future__ import annotations

from dtmm.storage.container import (
    FwcsSize,
    expanded_bytes,
    fwcs_blob_size,
    read_fwcs,
    write_fwcs,
)
from dtmm.storage.csr import Csr, decode_csr, encode_csr, list_csr
from dtmm.storage.dense import Dense, decode_dense, dense_size, encode_dense, encode_im2col
from dtmm.storage.fkw import Fkw, decode_fkw, encode_fkw
from dtmm.storage.formats import FORMATS, Stored, WeightFormat, decode, weight_format
from dtmm.storage.fwcs import Fwcs, decode_fwcs, encode_fwcs, fwcs_size
from dtmm.storage.parameters import folded_bias, pack_channel_params
from dtmm.storage.scratch import (
    dense_scratch,
    depthwise_scratch,
    fkw_scratch,
    fwcs_scratch,
    im2col_scratch,
)
from dtmm.storage.stored import StorageSize

__all__ = [
    "FORMATS",
    "Csr",
    "Dense",
    "Fkw",
    "Fwcs",
    "FwcsSize",
    "StorageSize",
    "Stored",
    "WeightFormat",
    "decode",
    "decode_csr",
    "decode_dense",
    "decode_fkw",
    "decode_fwcs",
    "dense_scratch",
    "dense_size",
    "depthwise_scratch",
    "encode_csr",
    "encode_dense",
    "encode_fkw",
    "encode_fwcs",
    "encode_im2col",
    "expanded_bytes",
    "fkw_scratch",
    "folded_bias",
    "fwcs_blob_size",
    "fwcs_scratch",
    "fwcs_size",
    "im2col_scratch",
    "list_csr",
    "pack_channel_params",
    "read_fwcs",
    "weight_format",
    "write_fwcs",
]
