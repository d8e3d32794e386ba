"""What `tools/create_data.py FORMAT` does: one module a format, found by its name.

A module has EXAMPLE, add_arguments(parser) and run(args); its docstring is the help text. All have --root, the folder
to read and to write; the tool holds it meanwhile.
"""
