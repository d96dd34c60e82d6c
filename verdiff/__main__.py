"""``python -m verdiff`` is the command ``verdiff``."""

from __future__ import annotations

from verdiff.cli import main

if __name__ == "__main__":
    main()
