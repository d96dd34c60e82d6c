"""One module a study, each with ``run(options) -> Findings``."""
