"""Levels from the picture: how the weights of :mod:`verdiff.anatomy.anchor` are made and what they are worth."""
