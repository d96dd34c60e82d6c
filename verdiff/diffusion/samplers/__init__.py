"""One sampler a file; each turns a process and its timesteps into rows of (a, b, c, d, e), see :mod:`..tables`.

Rows are those of k x0 and k f without the signal scale k: ``tables.make_table`` folds it in.
"""
