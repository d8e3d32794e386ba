"""Names of configs: of the shipped ones, and those that they had before, which are answered with the new one."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from pathlib import Path

from perception3d.checks import nearest_names, require_file

_PACKAGE = Path(__file__).resolve().parents[1]
# A checkout has its configs next to the package, an installed package in itself (setup.py).
_CONFIGS = (_PACKAGE if (_PACKAGE / 'configs').is_dir() else _PACKAGE.parent) / 'configs'
_NO_CONFIGS = ('_base_', 'experiments')
_EXAMPLES = ('fast_bev_tiny_96x352_9e_sim', 'point_pillars_secfpn_160e_kitti')
# A likeness above which one name is taken for the other with a slip.
_MISSPELT = 0.85

# A config's name begins with its folder.
_FOLDERS = (
    'bev_distill',
    'bev_former',
    'center_point',
    'fast_bev',
    'point_distiller',
    'point_pillars',
    'point_rcnn',
    'second',
)
_RENAMED = {
    'point_pillars_fpn_2x_24e_nuscenes': 'point_pillars_fpn_c2_24e_nuscenes',
    'point_pillars_fpn_4x_24e_nuscenes': 'point_pillars_fpn_c4_24e_nuscenes',
    'point_pillars_secfpn_160e_lidar': 'point_pillars_secfpn_160e_custom_boxes',
    'point_pillars_secfpn_16x_160e_kitti': 'point_pillars_secfpn_c16_160e_kitti',
    'point_pillars_secfpn_16x_overfit_sample': 'point_pillars_secfpn_c16_overfit_sample',
    'point_pillars_secfpn_4x_160e_kitti': 'point_pillars_secfpn_c4_160e_kitti',
    'point_pillars_tiny_4x_10e_kitti_sim': 'point_pillars_tiny_c4_10e_kitti_sim',
    'point_rcnn_16x_160e_kitti': 'point_rcnn_c16_160e_kitti',
    'point_rcnn_8x_160e_kitti': 'point_rcnn_c8_160e_kitti',
    'second_secfpn_16x_80e_kitti': 'second_secfpn_c16_80e_kitti',
    'second_secfpn_4x_80e_kitti': 'second_secfpn_c4_80e_kitti',
    'second_tiny_4x_10e_kitti_sim': 'second_tiny_c4_10e_kitti_sim',
    'attention_guided_point_pillars_4x_160e_kitti': 'point_distiller_attention_guided_point_pillars_c4_160e_kitti',
    'attention_transfer_point_pillars_4x_160e_kitti': 'point_distiller_attention_transfer_point_pillars_c4_160e_kitti',
    'crd_point_pillars_4x_160e_kitti': 'point_distiller_crd_point_pillars_c4_160e_kitti',
    'fitnets_point_pillars_4x_160e_kitti': 'point_distiller_fitnets_point_pillars_c4_160e_kitti',
    'fitnets_tiny_4x_10e_kitti_sim': 'point_distiller_fitnets_tiny_c4_10e_kitti_sim',
    'overhaul_point_pillars_4x_160e_kitti': 'point_distiller_overhaul_point_pillars_c4_160e_kitti',
    'point_distill_maps_tiny_4x_10e_kitti_sim': 'point_distiller_maps_tiny_c4_10e_kitti_sim',
    'point_distill_objects_tiny_4x_10e_kitti_sim': 'point_distiller_objects_tiny_c4_10e_kitti_sim',
    'point_distill_point_pillars_16x_160e_kitti': 'point_distiller_point_pillars_c16_160e_kitti',
    'point_distill_point_pillars_4x_160e_kitti': 'point_distiller_point_pillars_c4_160e_kitti',
    'point_distill_point_pillars_fpn_2x_24e_nuscenes': 'point_distiller_point_pillars_fpn_c2_24e_nuscenes',
    'point_distill_point_pillars_fpn_4x_24e_nuscenes': 'point_distiller_point_pillars_fpn_c4_24e_nuscenes',
    'point_distill_point_rcnn_16x_160e_kitti': 'point_distiller_point_rcnn_c16_160e_kitti',
    'point_distill_point_rcnn_8x_160e_kitti': 'point_distiller_point_rcnn_c8_160e_kitti',
    'point_distill_second_16x_80e_kitti': 'point_distiller_second_c16_80e_kitti',
    'point_distill_second_4x_80e_kitti': 'point_distiller_second_c4_80e_kitti',
    'point_distill_second_tiny_4x_10e_kitti_sim': 'point_distiller_second_tiny_c4_10e_kitti_sim',
    'point_distill_tiny_4x_10e_kitti_sim': 'point_distiller_tiny_c4_10e_kitti_sim',
    'similarity_point_pillars_4x_160e_kitti': 'point_distiller_similarity_point_pillars_c4_160e_kitti',
    'sparse_kd_point_pillars_4x_160e_kitti': 'point_distiller_sparse_kd_point_pillars_c4_160e_kitti',
    'sparse_kd_tiny_4x_10e_kitti_sim': 'point_distiller_sparse_kd_tiny_c4_10e_kitti_sim',
}
# In another folder, with the same name.
_MOVED = (
    'bev_distill_4frame_1frame_m0_r18_256x704_cbgs20e_nuscenes',
    'bev_distill_former_small_tiny_r50_450x800_24e_nuscenes',
    'bev_distill_former_tiny_1layer_64x224_4e_sim',
    'bev_distill_m1_m0_r18_256x704_cbgs20e_nuscenes',
    'bev_distill_m4_m2_r34_256x704_cbgs20e_nuscenes',
    'bev_distill_tiny_64x224_4e_sim',
    'bev_distill_tiny_64x224_cwd_4e_sim',
    'bev_distill_tiny_64x224_fitnets_4e_sim',
    'bev_distill_tiny_64x224_heatmap_4e_sim',
    'bev_distill_tiny_64x224_pkd_4e_sim',
    'bev_distill_tiny_half_96x352_4e_sim',
    'bev_former_tiny_1layer_64x224_4e_sim',
    'bev_former_tiny_96x352_8e_sim',
    'fast_bev_tiny_64x224_4e_sim',
    'fast_bev_tiny_96x352_8e_sim',
    'fast_bev_tiny_half_96x352_4e_sim',
    'bev_former_base_r101dcn_900x1600_24e_nuscenes',
    'bev_former_small_r101dcn_720x1280_24e_nuscenes',
    'bev_former_tiny_96x352_9e_sim',
    'bev_former_tiny_r50_450x800_24e_nuscenes',
    'center_point_pillar_cyclic20e_nuscenes',
    'center_point_voxel_cyclic20e_nuscenes',
    'point_pillars_fpn_24e_nuscenes',
    'point_pillars_secfpn_160e_kitti',
    'point_pillars_tiny_10e_kitti_sim',
    'point_rcnn_160e_kitti',
    'second_secfpn_80e_kitti',
    'second_tiny_10e_kitti_sim',
)


def renamed_config(path: str | Path) -> str:
    """Returns how the config that was once at `path` is called now, as `configs/FOLDER/NAME.py`; '' if none was."""
    name = Path(path).name.removesuffix('.py')
    name = _RENAMED.get(name, name if name in _MOVED else '')
    return next((f'configs/{folder}/{name}.py' for folder in _FOLDERS if name.startswith(folder)), '')


def repository() -> Path | None:
    """Returns the checkout that this package lies in, with its folders tools and configs; None for an installed one."""
    return _CONFIGS.parent if _CONFIGS.parent != _PACKAGE and (_PACKAGE.parent / 'tools').is_dir() else None


def find_config(path: str | Path) -> Path:
    """Returns the file of a config: `path` itself, or the shipped config of that name, with or without `.py`.

    A file goes before a shipped config of the same name. `configs/FOLDER/NAME.py`, as the documentation writes it, is
    the shipped one from any folder.

    Raises:
        InputError: there is neither; names the shipped configs whose names resemble it, or what it is called now.
    """
    path = Path(path)
    if path.is_file():
        return path
    shipped = {file.stem: file for file in _shipped()}
    name = path.name.removesuffix('.py')
    if name in shipped and str(path) in (name, f'{name}.py', str(shipped[name].relative_to(_CONFIGS.parent))):
        return shipped[name]
    new = shipped.get(Path(renamed_config(path)).stem)
    close = _similar(path, name, shipped)
    if new:
        hint = f'it is called {_shown(new)} now'
    elif close:
        hint = f'did you mean {" or ".join(close)}?'
    else:
        examples = [_shown(shipped[example]) for example in _EXAMPLES if example in shipped]
        hint = f'give the path of a config, or the name of a shipped one{", such as " if examples else ""}'
        hint += ' or '.join(examples)
    return require_file(path, hint)


def _similar(path: Path, name: str, shipped: Mapping[str, Path]) -> list[str]:
    """Returns up to three configs that are there: next to the missing `path`, or shipped, with the nearest names."""
    folder = path.parent
    beside = {file.stem: str(file) for file in folder.glob('*.py')} if folder.is_dir() else {}
    known = {**{stem: _shown(file) for stem, file in shipped.items()}, **beside}
    # A name that is cut short, or differs at its end, resembles the long names less than other short ones.
    shared = {stem: len(os.path.commonprefix([stem, name])) for stem in known}
    begins = sorted((stem for stem in known if shared[stem] >= max(6, len(name) - 3)), key=lambda stem: -shared[stem])
    close = nearest_names(name, known)
    best = [stem for stem in close if difflib.SequenceMatcher(None, stem, name).ratio() > _MISSPELT]
    return [known[stem] for stem in dict.fromkeys([*best, *begins, *close])][:3]


def find_experiment(path: str | Path) -> Path:
    """Returns an experiment file: `path` itself, or the shipped one of that name, as `find_config` does for configs.

    Raises:
        InputError: there is neither; names similar ones.
    """
    path = Path(path)
    folder = _CONFIGS / 'experiments'
    shipped = {file.stem: file for file in sorted(folder.glob('*.py'))}
    name = path.name.removesuffix('.py')
    if not path.is_file() and name in shipped and str(path) in (name, f'{name}.py', f'configs/experiments/{name}.py'):
        return shipped[name]
    close = _similar(path, name, shipped)
    hint = 'give the path of an experiment file, or the name of a shipped one'
    return require_file(path, f'{hint} (did you mean {" or ".join(close)}?)' if close else hint)


def _shipped() -> list[Path]:
    """The shipped configs that commands take."""
    return [file for file in sorted(_CONFIGS.glob('*/*.py')) if file.parent.name not in _NO_CONFIGS]


def _shown(config: Path) -> str:
    """A shipped config as a path that works in the current folder, or its name alone."""
    relative = config.relative_to(_CONFIGS.parent)
    return str(relative) if os.path.exists(relative) else config.stem
