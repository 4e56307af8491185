"""Float to int8 by the TFLite specification, and the integer reference of what it means."""

from __future__ import annotations

from dtmm.quantization.ptq import dequantize_output, quantize, quantize_input
from dtmm.quantization.quantized import QuantizedNetwork, QuantizedTensor
from dtmm.quantization.reference import run

__all__ = [
    "QuantizedNetwork",
    "QuantizedTensor",
    "dequantize_output",
    "quantize",
    "quantize_input",
    "run",
]
