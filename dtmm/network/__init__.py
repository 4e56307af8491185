"""What a model is: layers, tensors, channel groups. numpy only; `torch_reader` is imported apart."""

from __future__ import annotations

from dtmm.network.fold import fold
from dtmm.network.groups import ChannelGroup, channel_groups
from dtmm.network.ir import Network

__all__ = ["ChannelGroup", "Network", "channel_groups", "fold"]
