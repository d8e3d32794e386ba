"""Distillation losses, one paper a file; each is `forward(student, teacher, context)` and gives a scalar."""
