"""Engines in memory: from the cache to the networks of the device path. Needs TensorRT, never onnx."""
