"""One module a command of ``verdiff``: its options, and what it does once they are parsed."""
