"""The papers' tables from trainings: a queue of models at equal wall-clock budget, their scores, and a page.

``plans`` says which models a table has, ``folder`` what lies where, ``queue`` goes through them and on where it was
stopped, ``scoring`` predicts and scores what a run put aside, ``table`` and ``page`` make of it what is read.
"""
