"""Supervoxels of point-to-voxel distillation for the classes of SemanticKITTI.

For other classes set `class_shares`, in the order of the labels, and `classes` and `minority` of each link from them: a
training whose data set has other classes is refused.
"""

# Share of all points, from the `content` of the label map of the benchmark's tools.
class_shares = {
    'car': 0.0426,
    'bicycle': 0.00017,
    'motorcycle': 0.0004,
    'truck': 0.00216,
    'other-vehicle': 0.00181,
    'person': 0.00034,
    'bicyclist': 0.00013,
    'motorcyclist': 0.00004,
    'road': 0.199,
    'parking': 0.0147,
    'sidewalk': 0.144,
    'other-ground': 0.0039,
    'building': 0.133,
    'fence': 0.0724,
    'vegetation': 0.267,
    'trunk': 0.00604,
    'terrain': 0.0781,
    'pole': 0.00286,
    'traffic-sign': 0.00062,
}

# K = 4 and the limit of 1 % are recalled from the paper; the sizes of the sets are our own proposal.
supervoxels = dict(
    classes=[*class_shares],
    minority=[name for name, share in class_shares.items() if share < 0.01],
    draws=4,
    num_points=512,
    num_voxels=256,
)
