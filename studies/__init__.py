"""The studies behind the pages of docs/results: research on the models, run from a checkout, in no wheel.

``python -m studies list`` names them. ``cases`` has a module a study, ``pages`` what each shows, ``library`` what
several share; the library imports neither of the others.
"""
