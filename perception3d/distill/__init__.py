"""Knowledge distillation: one mechanism for every teacher and student, and the losses of papers, one a file.

What is registered is a name of this package:

>>> import torch
>>> from perception3d.distill import FeatureMSE
>>> student, teacher = torch.zeros(2, 8, 4, 4), torch.full((2, 8, 4, 4), 0.5)
>>> FeatureMSE()(student, teacher)
tensor(0.2500)
"""

from __future__ import annotations

from perception3d.public_names import registered_names

__getattr__, __dir__ = registered_names(__name__)
