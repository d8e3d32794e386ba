"""What the lane networks share: losses and weights of ENet-SAD, the decoder of CULane, ImageNet's mean and deviation.

L = cross-entropy (background 0.4) + 0.1 soft IoU + 0.1 existence.
"""

from perception3d.models.lane.losses import LaneCrossEntropyLoss, LaneExistenceLoss, LaneSoftIoULoss
from perception3d.models.lane.mask_decoder import MaskDecoder
from perception3d.models.lane.preprocessor import LanePreprocessor
from perception3d.models.lane.row_decoder import RowDecoder
from perception3d.models.lane.segmentor import LaneSegmentor

# The slots of lanes, left to right.
class_names = ['left-2', 'left-1', 'right-1', 'right-2']
# Height and width of the input.
input_hw = [208, 976]
# Whether the network says which lanes exist. Without, its result is a mask of pixels, as BDD100K has it.
exist = True
# Side in pixels of the squares over which the decoder averages probabilities.
decoder_kernel = 9
# Of red, green and blue, 0..255.
mean, std = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]

model = dict(
    type=LaneSegmentor,
    data_preprocessor=dict(type=LanePreprocessor, mean=mean, std=std),
    net=dict(num_lanes=len(class_names), input_hw=input_hw, exist=exist),
    losses=dict(
        seg=dict(type=LaneCrossEntropyLoss),
        iou=dict(type=LaneSoftIoULoss, weight=0.1),
        exist=dict(type=LaneExistenceLoss, weight=0.1),
    ),
    decoder=dict(
        type=RowDecoder,
        row_step_px=20,
        num_rows=18,
        threshold=0.3,
        exist_threshold=0.5,
        kernel=decoder_kernel,
        smooth_px=None,
    ),
    # True: pictures show where the four stages are strong; or a list of stages.
    keep_attention=False,
)
if not exist:
    del model['losses']['exist']
    model['decoder'] = dict(type=MaskDecoder)
