"""From a training run to a verified bundle: graphs, their storage, goldens and the checks that gate the writing."""
