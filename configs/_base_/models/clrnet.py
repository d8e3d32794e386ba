"""CLRNet on a ResNet: lanes from priors, without slots. `pretrained` takes a checkpoint of torchvision's ResNet."""

from perception3d.models.lane.clr_decoder import CLRDecoder
from perception3d.models.lane.clrnet import LaneCLRNet
from perception3d.models.lane.preprocessor import LanePreprocessor

# The slots of lanes, left to right: classes of the segmentation that helps in training.
class_names = ['left-2', 'left-1', 'right-1', 'right-2']
# Height and width of the input.
input_hw = [320, 800]
depth, base_channels = 18, 64
pretrained = None
# Priors of lanes, and at how many of their 72 rows features are read.
num_priors, sample_points = 192, 36
# Of red, green and blue, 0..255.
mean, std = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]

model = dict(
    type=LaneCLRNet,
    num_lanes=len(class_names),
    input_hw=input_hw,
    depth=depth,
    base_channels=base_channels,
    pretrained=pretrained,
    head=dict(num_priors=num_priors, sample_points=sample_points),
    # Lanes 50 of 800 pixels apart are two.
    decoder=dict(type=CLRDecoder, distance_px=input_hw[1] / 16),
    data_preprocessor=dict(type=LanePreprocessor, mean=mean, std=std),
)
