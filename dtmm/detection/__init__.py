"""Boxes: from a network's outputs to detections, and how good these are. Numpy only."""
