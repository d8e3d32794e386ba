"""What `tools/evaluate.py FORMAT` does: one module a format, found by its name.

A module has EXAMPLE, add_arguments(parser) and evaluate(args) -> (scores, table); its docstring is the help text.
"""
