"""verdiff: from a trained diffusion segmentation model of the spine to a mask that surgical software can trust."""

__version__ = "0.1.0"
