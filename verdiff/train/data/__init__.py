"""Data sets for training: nnU-Net raw folders read into cases, and the prepared cache that needs no SimpleITK."""
