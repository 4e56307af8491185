"""Benchmarks of the C library on the simulated device, beside figures of code that is not ours.

python -m benchmarks.kernels    single operators
python -m benchmarks.networks   whole networks

Results lie in results/, figures of other people's code in external/. Every file is a table of
`dtmm.table`: how it was measured stands in its header.
"""

from __future__ import annotations
