"""Knowledge distillation: one mechanism for every teacher and student, and the losses of papers, one a file."""
