"""Experiments: arms times seeds from one small Python file, trained, tested and compared in one table.

`plan` reads the file, `commands` builds the command lines, `records` keeps what is known of a cell (one arm with one
seed), `cells` runs cells, `table` computes and writes the result, `run` is what tools/experiment.py calls.
"""
