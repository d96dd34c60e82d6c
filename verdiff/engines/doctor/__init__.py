"""What ``verdiff doctor`` says of TensorRT and of the engines in the cache; nothing here builds or runs one."""
