"""Training of Verdiff-Net in PyTorch: networks, data, losses and the training loop. Nothing at run time imports it."""
