"""Experiments: arms times seeds from one small Python file, trained, tested and put into one table.

`plan` reads the file, `fingerprint` knows a cell whose config has changed, `commands` writes the command lines,
`records` keeps what a cell has behind it, `schedule` runs cells, `statistics` and `table` make the result, `run` is
what tools/experiment.py calls.
"""
