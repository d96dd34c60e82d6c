"""The device path: memory taken before the loop, the loop as captured CUDA graphs, fusion on the device.

Nothing here is imported before a CUDA device is asked for; docs/gpu.md is the guide.
"""
