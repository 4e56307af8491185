"""What a model is: layers, tensors, channel groups. numpy only.

`torch_reader` is imported apart (it needs torch), and so is `tflite_writer` (the [tflite] extra).
"""

from __future__ import annotations

from dtmm.network.check import check
from dtmm.network.fold import fold
from dtmm.network.groups import ChannelGroup, channel_groups
from dtmm.network.ir import Network

__all__ = ["ChannelGroup", "Network", "channel_groups", "check", "fold"]
