"""Distillation losses, one paper per file: a plain function on tensors first, then the module that configs name.

A module is called as `forward(student, teacher, context)` and returns a scalar. The teacher's features never get a
gradient.
"""
