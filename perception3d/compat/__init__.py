"""Every fix that an upstream package needs on current torch: what, why, and the test that fails when it can go.

Nothing heavy is imported here. A fix waits for its module to be imported and is applied at that moment. Modules and
functions that get new attributes are typed Any, since ModuleType and Callable have no attribute of such a name.

1. mmdet3d 1.4.0 asserts mmcv < 2.2 and mmdet < 3.4, while the maintained forks are 2.3.6 and 3.5.1: its import check
   gets 2.1.0 and 3.3.0. Can go when `test_mmdet3d_still_asserts_versions` fails.
2. mmengine's fork falls back to running the pickle of a checkpoint that the safe loader refuses, its allow-list holds
   getattr, what it downloads goes through torch.hub, which runs pickles too, and a resumed run executes the config text
   of its checkpoint: our loader takes its place, which refuses. Can go when `test_mmengine_still_runs_pickles` fails.
3. mmdet's fork prints twice, on every start, that a data set that nobody asked for is not installed: the line is left
   out. Can go when `test_mmdet_still_prints` fails.
4. spconv's loops on the CPU lose additions when torch has several threads (a strided convolution was off by its own
   size), and its backward asks CUDA for a stream also for CPU tensors: those go to `ops/sparse_conv.py` and
   `sparse_pairs.py`. Can go when spconv equals a dense convolution with many threads; the loss depends on timing, so
   no test can show it.
5. mmengine formats the text of a config with yapf (1 to 3 s) for the log, for the file next to it and for every
   checkpoint: yapf remembers the last texts. Can go when `test_mmengine_still_formats_again` fails.
6. mmcv cannot be imported without its compiled ops, which take 10 to 40 minutes to build and which a CPU user does not
   need: where they are missing, `mmcv_ext.py` supplies `mmcv._ext` with the ops of `mmcv_on_cpu.py`. The error for
   a missing op names it and the command that builds it. Can go when mmcv imports without `_ext`.
7. mmengine sets an option for a value at the top of a config when the parts that follow from it are already computed:
   `mmengine_options.py` sets it while the config is executed. Bases also cannot read what a config sets, and the
   steps of a pipeline, a list, have no names: it lets the bases take what is set above `with read_base()`, and reads a
   dict of named steps. Can go when mmengine does so itself.
8. mmdet3d's LiDAR detectors take the size of a batch from its last voxel and fail where the last cloud, or every cloud,
   has no point in range; PointRCNN also fails at frames without objects: `empty_frames.py` counts the clouds and
   divides by 1 or more. Can go when `test_mmdet3d_still_counts_voxels` fails.
9. mmdet3d states the grid of a LiDAR detector in up to five places and compares none: `checked_models.py` compares them
   when a model is built. Can go when mmdet3d does so itself.
10. mmengine resumes from the absolute path in last_checkpoint, also in a copied or renamed folder: only the
    file name is used.
    Can go when `test_mmengine_still_takes_paths` fails.
11. mmengine's handlers of pickles and YAML run code from the file, and mmdet's OpenImages reads pickled arrays: our
    readers take their place. Can go when `test_mmengine_still_runs_data_files` fails.
12. mmengine's configs in JSON and YAML reach any code, see `data_configs.py`; upstream classes eval texts of a config.
    Can go when `test_mmengine_still_imports_for_data` fails.
13. mmengine refuses to join splits of one data set and cannot balance the classes of joined ones, and mmdet's own
    ConcatDataset gives a list of metainfo: `dataset_wrappers.py` lets them. Can go when
    `test_mmengine_still_refuses_splits` fails.
14. mmdet3d's PointPillarsScatter writes a pillar outside its map into the next row: `pillar_maps.py` refuses it. Can go
    when mmdet3d does so itself.
15. mmcv asks for opencv-python, which does not load without libGL, and nuscenes-devkit for opencv-python-headless,
    which writes the same files: `imports.py` names the command that helps where the wrong one came last. Can go when
    mmcv and nuscenes-devkit ask for the same one.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

from perception3d.compat import empty_frames, mmcv_ext
from perception3d.compat.checked_models import compare_parts_of_models
from perception3d.compat.data_configs import (
    arrays_without_pickles,
    import_nothing_for_data,
    names_in_place_of_eval,
    read_data_configs_as_data,
)
from perception3d.compat.dataset_wrappers import join_splits, join_splits_as_mmengine
from perception3d.compat.imports import versions_that_mmdet3d_accepts, without_libgl, without_the_onedl_lines
from perception3d.compat.mmengine_loading import load_checkpoints_safely, read_files_safely
from perception3d.compat.mmengine_options import read_settings_and_named_steps, take_option_values
from perception3d.compat.mmengine_resuming import find_checkpoints_by_name
from perception3d.compat.pillar_maps import require_pillars_inside
from perception3d.compat.spconv_on_cpu import convolve_on_the_cpu
from perception3d.compat.yapf_texts import read_grammars_that_are_whole, remember_formatted_texts


def _fix_checkpoints(module: ModuleType) -> None:
    load_checkpoints_safely(module)
    find_checkpoints_by_name(module)


def _fix_configs(module: ModuleType) -> None:
    take_option_values(module)
    read_settings_and_named_steps(module)
    read_data_configs_as_data(module)


_AROUND: dict[str, Callable[[], Any]] = {
    'cv2': without_libgl,
    'mmdet3d': versions_that_mmdet3d_accepts,
    'mmdet.datasets': without_the_onedl_lines,
}
_AFTER: dict[str, Callable[[ModuleType], None]] = {
    'mmdet.datasets.dataset_wrappers': join_splits_as_mmengine,
    'mmcv._ext': mmcv_ext.name_ops_without_cuda,
    'mmcv.utils.ext_loader': mmcv_ext.say_whether_ops_are_compiled,
    'mmdet3d.datasets.transforms.transforms_3d': empty_frames.sample_points_of_empty_clouds,
    'mmdet3d.models.dense_heads.point_rpn_head': empty_frames.learn_from_frames_without_objects,
    'mmdet3d.models.detectors.dynamic_voxelnet': empty_frames.count_clouds_of_dynamic_voxelnet,
    'mmdet3d.models.detectors.mvx_faster_rcnn': empty_frames.count_clouds_of_dynamic_mvx,
    'mmdet3d.models.detectors.mvx_two_stage': empty_frames.count_clouds_of_mvx,
    'mmdet3d.models.detectors.parta2': empty_frames.count_clouds_of_part_a2,
    'mmdet3d.models.detectors.point_rcnn': empty_frames.leave_empty_clouds_out_of_point_rcnn,
    'mmdet3d.models.detectors.pv_rcnn': empty_frames.count_clouds_of_pv_rcnn,
    'mmdet3d.models.detectors.sassd': empty_frames.count_clouds_of_sassd,
    'mmdet3d.models.detectors.voxelnet': empty_frames.count_clouds_of_voxelnet,
    'mmdet3d.models.layers.fusion_layers.point_fusion': empty_frames.sample_images_at_one_point,
    'mmdet3d.models.middle_encoders.pillar_scatter': require_pillars_inside,
    'mmdet3d.models.middle_encoders.sparse_unet': empty_frames.reduce_channels_of_no_voxels,
    'mmdet3d.models.middle_encoders.voxel_set_abstraction': empty_frames.sample_key_points_of_every_cloud,
    'mmdet3d.models.voxel_encoders.voxel_encoder': empty_frames.count_clouds_of_hard_vfe,
    'mmengine.dataset.dataset_wrapper': join_splits,
    'mmengine.registry.root': compare_parts_of_models,
    'mmengine.runner.checkpoint': _fix_checkpoints,
    'mmengine.fileio.io': read_files_safely,
    'mmengine.config.config': _fix_configs,
    'mmengine.registry.registry': import_nothing_for_data,
    'mmcv.ops.nms': names_in_place_of_eval,
    'mmcv.cnn.rfsearch.search': names_in_place_of_eval,
    'mmdet.models.task_modules.tracking.camera_motion_compensation': names_in_place_of_eval,
    'mmdet3d.datasets.transforms.loading': names_in_place_of_eval,
    'mmdet.datasets.openimages': arrays_without_pickles,
    'spconv.pytorch.ops': convolve_on_the_cpu,
    'yapf.yapflib.yapf_api': remember_formatted_texts,
    'yapf_third_party._ylib2to3.pgen2.driver': read_grammars_that_are_whole,
}


class _PatchedLoader(importlib.abc.Loader):
    """Runs a module's own loader with the fix around or after it."""

    def __init__(self, name: str, loader: importlib.abc.Loader) -> None:
        self.name = name
        self.loader = loader

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        if self.name in _AROUND:
            with _AROUND[self.name]():
                self.loader.exec_module(module)
        else:
            self.loader.exec_module(module)
        if self.name in _AFTER:
            _AFTER[self.name](module)

    def __getattr__(self, name: str) -> Any:
        # inspect and pkgutil ask a loader for its source, its path and its resources.
        return getattr(self.loader, name)


class _PatchFinder(importlib.abc.MetaPathFinder):
    """Handles only the modules that need a fix, which it finds on the usual path."""

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        replacement = mmcv_ext.replacement_spec(path) if fullname == mmcv_ext.NAME else None
        if replacement is not None:
            return replacement
        if fullname not in _AROUND and fullname not in _AFTER:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _PatchedLoader(fullname, spec.loader)
        return spec


def apply() -> None:
    """Installs the fixes. Cheap, and harmless when called again; importing perception3d calls it."""
    if not any(isinstance(finder, _PatchFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _PatchFinder())
    for name, fix in _AFTER.items():
        if name in sys.modules:
            fix(sys.modules[name])
