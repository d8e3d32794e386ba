"""Fixes of what mmdet3d does with clouds that have no point in range, and with frames without objects.

Its voxel detectors take the size of a batch from the last voxel, but the last cloud, or every cloud, may have no voxel;
and a network predicts boxes on an empty map too. Here the size is the number of clouds, and a cloud without points in
range has no boxes.
PointRCNN stacks clouds of equal size: here it runs on those that have points. Its proposals learn from a frame without
objects that every point is background.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any


def _clouds_in_batch(voxels: Any, points: Any) -> int:
    return len(points) if points is not None else int(voxels['coors'][-1, 0]) + 1


def _drop_boxes_of_empty_clouds(samples: Sequence[Any], coors: Any) -> Sequence[Any]:
    """Leaves no boxes in the predicted samples without a voxel or a point in `coors` (V, 4): sample, z, y, x."""
    import torch

    inside = coors[(coors >= 0).all(1), :1]
    seen = (inside == torch.arange(len(samples), device=coors.device)).any(0).tolist()
    for sample, has_points in zip(samples, seen, strict=True):
        if not has_points:
            sample.pred_instances_3d = sample.pred_instances_3d[:0]
    return samples


def _encoded(encoder: Any, voxels: Any, *more: Any) -> Any:
    """Returns the features of the voxels; without any, the statistics of norms, which would become NaN, stay."""
    rows, counts, coors = voxels['voxels'], voxels['num_points'], voxels['coors']
    if len(rows) or getattr(encoder, 'takes_no_voxels', False):
        return encoder(rows, counts, coors, *more)
    with _torch_norms_in_eval(encoder):
        return encoder(rows.new_zeros(1, *rows.shape[1:]), counts.new_ones(1), coors.new_zeros(1, 4), *more)[:0]


def _encoded_points(encoder: Any, voxels: Any, points: Any = (), *more: Any) -> tuple[Any, Any]:
    """Returns features and cells of a dynamic encoder, which takes points with their cells.

    Points out of range, whose cell is -1, are left out; statistics of norms stay where fewer than two are left.

    Args:
        encoder: the encoder.
        voxels: 'voxels', rows of the points of all clouds, and 'coors' (N, 4), their cells.
        points: the clouds, for an encoder that fuses images.
        more: what such an encoder takes after them.
    """
    inside = (voxels['coors'] >= 0).all(1)
    rows, coors = voxels['voxels'][inside], voxels['coors'][inside]
    count = len(rows)
    clouds = [cloud[chosen] for cloud, chosen in zip(points, inside.split([*map(len, points)]))] if points else []
    if not count:
        # Without a point, one that is taken away again: the result has the encoder's width and is in the graph.
        rows, coors = rows.new_zeros(1, rows.shape[1]), coors.new_zeros(1, 4)
        clouds[:1] = [rows for _ in clouds[:1]]
    fused = (clouds, *more) if points else ()
    if count > 1:
        return encoder(rows, coors, *fused)
    with _torch_norms_in_eval(encoder):
        features, cells = encoder(rows, coors, *fused)
    return features[:count], cells[:count]


def count_clouds_of_voxelnet(module: ModuleType) -> None:
    """VoxelNet: the number of clouds is that of the batch, and a cloud without voxels has no boxes."""

    def extract_feat(self: Any, batch_inputs_dict: dict) -> Any:
        """Extract features from points."""
        voxels = batch_inputs_dict['voxels']
        features = _encoded(self.voxel_encoder, voxels)
        size = _clouds_in_batch(voxels, batch_inputs_dict.get('points'))
        x = self.backbone(self.middle_encoder(features, voxels['coors'], size))
        return self.neck(x) if self.with_neck else x

    def predict(self: Any, batch_inputs_dict: dict, batch_data_samples: Any, **kwargs: Any) -> Any:
        """Predict boxes; none for a cloud without a point in range."""
        samples = super(module.VoxelNet, self).predict(batch_inputs_dict, batch_data_samples, **kwargs)
        return _drop_boxes_of_empty_clouds(samples, batch_inputs_dict['voxels']['coors'])

    module.VoxelNet.extract_feat, module.VoxelNet.predict = extract_feat, predict


def count_clouds_of_dynamic_voxelnet(module: ModuleType) -> None:
    """DynamicVoxelNet: as VoxelNet; points out of range, whose cell is -1, are left out before the encoder."""

    def extract_feat(self: Any, batch_inputs_dict: dict) -> Any:
        """Extract features from points."""
        voxels = batch_inputs_dict['voxels']
        features, coors = _encoded_points(self.voxel_encoder, voxels)
        size = _clouds_in_batch(voxels, batch_inputs_dict.get('points'))
        x = self.backbone(self.middle_encoder(features, coors, size))
        return self.neck(x) if self.with_neck else x

    module.DynamicVoxelNet.extract_feat = extract_feat


def count_clouds_of_mvx(module: ModuleType) -> None:
    """MVXTwoStageDetector, the base of CenterPoint: as VoxelNet."""
    detector = module.MVXTwoStageDetector
    original = detector.predict

    def extract_pts_feat(
        self: Any, voxel_dict: Any, points: Any = None, img_feats: Any = None, batch_input_metas: Any = None
    ) -> Any:
        """Extract features of points."""
        if not self.with_pts_bbox:
            return None
        features = _encoded(self.pts_voxel_encoder, voxel_dict, img_feats, batch_input_metas)
        size = _clouds_in_batch(voxel_dict, points)
        x = self.pts_backbone(self.pts_middle_encoder(features, voxel_dict['coors'], size))
        return self.pts_neck(x) if self.with_pts_neck else x

    def predict(self: Any, batch_inputs_dict: dict, batch_data_samples: Any, **kwargs: Any) -> Any:
        """Predict boxes; none for a cloud without a point in range."""
        samples = original(self, batch_inputs_dict, batch_data_samples, **kwargs)
        voxels = batch_inputs_dict.get('voxels')
        return samples if voxels is None else _drop_boxes_of_empty_clouds(samples, voxels['coors'])

    detector.extract_pts_feat, detector.predict = extract_pts_feat, predict


def count_clouds_of_dynamic_mvx(module: ModuleType) -> None:
    """DynamicMVXFasterRCNN: as DynamicVoxelNet."""

    def extract_pts_feat(
        self: Any, voxel_dict: Any, points: Any = None, img_feats: Any = None, batch_input_metas: Any = None
    ) -> Any:
        """Extract features of points."""
        if not self.with_pts_bbox:
            return None
        features, coors = _encoded_points(self.pts_voxel_encoder, voxel_dict, points, img_feats, batch_input_metas)
        x = self.pts_backbone(self.pts_middle_encoder(features, coors, _clouds_in_batch(voxel_dict, points)))
        return self.pts_neck(x) if self.with_pts_neck else x

    module.DynamicMVXFasterRCNN.extract_pts_feat = extract_pts_feat


def count_clouds_of_hard_vfe(module: ModuleType) -> None:
    """HardVFE: images are fused with the points of every cloud, also where the last ones have no voxel."""

    def fusion_with_mask(
        self: Any, features: Any, mask: Any, voxel_feats: Any, coors: Any, img_feats: Any, img_metas: Any
    ) -> Any:
        """Fuse image and point features with mask."""
        clouds = [features[chosen][mask[chosen]] for chosen in (coors[:, 0] == k for k in range(len(img_metas)))]
        fused = self.fusion_layer(img_feats, clouds, voxel_feats[mask], img_metas)
        canvas = voxel_feats.new_zeros(*voxel_feats.shape[:2], fused.shape[-1])
        canvas[mask] = fused
        return canvas.max(1)[0]

    module.HardVFE.fusion_with_mask = fusion_with_mask


def sample_images_at_one_point(module: Any) -> None:
    """PointFusion: the features of a cloud of one point are a row as well; mmdet3d squeezes the row away."""
    original = module.point_sample

    def point_sample(*args: Any, **kwargs: Any) -> Any:
        """Obtain image features (N, C) using points."""
        features = original(*args, **kwargs)
        return features[None] if features.dim() == 1 else features

    module.point_sample = point_sample


def count_clouds_of_part_a2(module: ModuleType) -> None:
    """PartA2: as VoxelNet."""

    def extract_feat(self: Any, batch_inputs_dict: dict) -> dict:
        """Extract features from points."""
        voxels = batch_inputs_dict['voxels']
        outputs = self.middle_encoder(*_encoder_inputs(self, batch_inputs_dict))
        x = self.backbone(outputs['spatial_features'])
        if self.with_neck:
            outputs['neck_feats'] = self.neck(x)
        return {**outputs, 'voxels_dict': voxels}

    module.PartA2.extract_feat = extract_feat
    _leave_no_boxes_in_empty_clouds(module.PartA2)


def reduce_channels_of_no_voxels(module: ModuleType) -> None:
    """SparseUNet, which PartA2 uses: channels are added in groups also where there is no voxel."""

    def reduce_channel(x: Any, out_channels: int) -> Any:
        """Reduce channel for element-wise addition."""
        count, channels = x.features.shape
        groups = x.features.view(count, out_channels, channels // out_channels)
        return module.replace_feature(x, groups.sum(dim=2))

    module.SparseUNet.reduce_channel = staticmethod(reduce_channel)


def count_clouds_of_pv_rcnn(module: ModuleType) -> None:
    """PointVoxelRCNN: as VoxelNet."""

    def extract_feat(self: Any, batch_inputs_dict: dict) -> dict:
        """Extract features from the input voxels."""
        spatial, levels = self.middle_encoder(*_encoder_inputs(self, batch_inputs_dict))
        outputs = dict(spatial_feats=spatial, multi_scale_3d_feats=levels)
        x = self.backbone(spatial)
        return {**outputs, 'neck_feats': self.neck(x)} if self.with_neck else outputs

    module.PointVoxelRCNN.extract_feat = extract_feat
    _leave_no_boxes_in_empty_clouds(module.PointVoxelRCNN)


def count_clouds_of_sassd(module: ModuleType) -> None:
    """SASSD: as VoxelNet."""

    def extract_feat(self: Any, batch_inputs_dict: dict, test_mode: bool = True) -> Any:
        """Extract features from points."""
        x, points = self.middle_encoder(*_encoder_inputs(self, batch_inputs_dict), test_mode)
        x = self.backbone(x)
        x = self.neck(x) if self.with_neck else x
        return x if test_mode else (x, points)

    module.SASSD.extract_feat = extract_feat
    _leave_no_boxes_in_empty_clouds(module.SASSD)


def _encoder_inputs(detector: Any, inputs: dict) -> tuple[Any, Any, int]:
    """Returns what the middle encoder takes: features and cells of the voxels, and the number of clouds."""
    voxels = inputs['voxels']
    size = _clouds_in_batch(voxels, inputs.get('points'))
    return _encoded(detector.voxel_encoder, voxels), voxels['coors'], size


def _leave_no_boxes_in_empty_clouds(detector: Any) -> None:
    original = detector.predict

    def predict(self: Any, batch_inputs_dict: dict, batch_data_samples: Any, **kwargs: Any) -> Any:
        """Predict boxes; none for a cloud without a point in range."""
        samples = original(self, batch_inputs_dict, batch_data_samples, **kwargs)
        return _drop_boxes_of_empty_clouds(samples, batch_inputs_dict['voxels']['coors'])

    detector.predict = predict


def sample_key_points_of_every_cloud(module: ModuleType) -> None:
    """VoxelSetAbstraction: every cloud has key points; those of an empty one all lie at the centre of the range."""

    def sample_key_points(self: Any, points: Any, coors: Any) -> Any:
        """Sample key points (B, M, 3) from raw points or from the centres of voxels."""
        import torch

        clouds = points
        if self.voxel_center_as_source:
            centres = self.get_voxel_centers(coors=coors, scale_factor=1)
            clouds = [centres[coors[:, 0] == k] for k in range(_clouds_in_batch({'coors': coors}, points))]
        edges, wanted, sampled = self.point_cloud_range, self.num_keypoints, []
        for cloud in clouds:
            middle = cloud.new_tensor([[(low + high) / 2 for low, high in zip(edges[:3], edges[3:])]])
            places = cloud[:, :3] if len(cloud) else middle
            chosen = module.furthest_point_sample(places[None].contiguous(), wanted).long()[0]
            if len(places) < wanted:
                chosen = chosen[: len(places)].repeat(wanted // len(places) + 1)[:wanted]
            sampled.append(places[chosen])
        return torch.stack(sampled)

    module.VoxelSetAbstraction.sample_key_points = sample_key_points


def leave_empty_clouds_out_of_point_rcnn(module: ModuleType) -> None:
    """PointRCNN: clouds without points are left out of a batch; they have no boxes and no part in the loss."""
    detector = module.PointRCNN
    loss, predict, forward = detector.loss, detector.predict, detector._forward

    def loss_of_clouds(self: Any, inputs: dict, samples: Any, **kwargs: Any) -> Any:
        """Calculate losses of the clouds that have points; all are 0 where none has."""
        if any(map(len, inputs['points'])):
            return loss(self, *_filled(inputs, samples), **kwargs)
        with _torch_norms_in_eval(self):
            losses = loss(self, *_origin(inputs, samples), **kwargs)
        return {
            name: [0 * v for v in value] if isinstance(value, list) else 0 * value for name, value in losses.items()
        }

    def predict_clouds(self: Any, inputs: dict, samples: Any, **kwargs: Any) -> Any:
        """Predict boxes; none for a cloud without points."""
        if all(map(len, inputs['points'])):
            return predict(self, inputs, samples, **kwargs)
        if any(map(len, inputs['points'])):
            predict(self, *_filled(inputs, samples), **kwargs)
        else:
            predict(self, *_origin(inputs, samples), **kwargs)
            samples[0].pred_instances_3d = samples[0].pred_instances_3d[:0]
        predicted = next(sample for sample in samples if 'pred_instances_3d' in sample)
        for sample, cloud in zip(samples, inputs['points'], strict=True):
            if not len(cloud):
                self.add_pred_to_datasample([sample], [predicted.pred_instances_3d[:0]])
        return samples

    def forward_clouds(self: Any, inputs: dict, samples: Any, **kwargs: Any) -> Any:
        """Run the network on the clouds that have points."""
        some = _filled if any(map(len, inputs['points'])) else _origin
        return forward(self, *some(inputs, samples), **kwargs)

    detector.loss, detector.predict, detector._forward = loss_of_clouds, predict_clouds, forward_clouds


def _filled(inputs: dict, samples: Any) -> tuple[dict, Any]:
    """Returns a batch of the clouds that have points, with their samples."""
    chosen = [k for k, cloud in enumerate(inputs['points']) if len(cloud)]
    some = None if samples is None else [samples[k] for k in chosen]
    return {**inputs, 'points': [inputs['points'][k] for k in chosen]}, some


def _origin(inputs: dict, samples: Any) -> tuple[dict, Any]:
    """Returns a batch of one cloud, of a few points at the origin, that stands in where no cloud has points."""
    cloud = inputs['points'][0]
    return {**inputs, 'points': [cloud.new_zeros(16, cloud.shape[1])]}, None if samples is None else samples[:1]


def learn_from_frames_without_objects(module: ModuleType) -> None:
    """PointRPNHead: a frame without objects has background alone; the loss of no positive point is finite."""
    head = module.PointRPNHead
    original = head.get_targets_single

    def get_targets_single(self: Any, points: Any, gt_bboxes_3d: Any, gt_labels_3d: Any) -> Any:
        """Generate targets of PointRCNN RPN head for single batch."""
        if (gt_labels_3d != -1).any():
            return original(self, points, gt_bboxes_3d, gt_labels_3d)
        positive = points.new_zeros(len(points)).bool()
        targets = points.new_zeros(len(points), self.bbox_coder.code_size), positive.long(), positive, ~positive
        return *targets, points[..., :3]

    def loss_by_feat(
        self: Any, bbox_preds: Any, cls_preds: Any, points: Any, batch_gt_instances_3d: Any, *ignored: Any
    ) -> dict:
        """Compute loss."""
        boxes, classes, positive, negative, weights, _ = self.get_targets(points, batch_gt_instances_3d)
        classes[negative] = self.num_classes
        counted = (negative.float() + positive.float()).reshape(-1)
        semantic = self.cls_loss(cls_preds.reshape(-1, self.num_classes), classes.reshape(-1), counted)
        # mmdet3d divides by 0 where no point lies in an object.
        semantic = semantic / positive.float().sum().clamp(min=1.0)
        return dict(bbox_loss=self.bbox_loss(bbox_preds, boxes, weights.unsqueeze(-1)), semantic_loss=semantic)

    head.get_targets_single, head.loss_by_feat = get_targets_single, loss_by_feat


@contextmanager
def _torch_norms_in_eval(network: Any) -> Iterator[None]:
    """Lets batch norms of torch use what they have learned; those that span processes wait for one another."""
    from torch import nn

    plain = (nn.BatchNorm1d, nn.BatchNorm2d)
    norms = [norm for norm in network.modules() if isinstance(norm, plain) and norm.training]
    for norm in norms:
        norm.eval()
    try:
        yield
    finally:
        for norm in norms:
            norm.train()


def sample_points_of_empty_clouds(module: ModuleType) -> None:
    """PointSample: there is nothing to choose from a cloud without points, which stays as it is."""
    original = module.PointSample._points_random_sampling

    def sampled(self: Any, points: Any, *args: Any, return_choices: bool = False, **kwargs: Any) -> Any:
        """Points random sampling."""
        if len(points):
            return original(self, points, *args, return_choices=return_choices, **kwargs)
        import numpy as np

        return (points, np.zeros(0, np.int64)) if return_choices else points

    module.PointSample._points_random_sampling = sampled
