"""An OpenIGTLink server: images in, masks and surfaces out.

Written from the protocol's specification, http://openigtlink.org/developers/spec, for header versions 1 and 2.
"""

from verdiff.limits import IgtlLimits
from verdiff.serve.igtl.server import IgtlServer

__all__ = ["IgtlLimits", "IgtlServer"]
