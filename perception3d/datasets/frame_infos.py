"""Reads info files whose samples are single frames; errors say which command makes the file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from perception3d.checks import InputError, unknown_name
from perception3d.files import holds_frames, read_pickle


def read_frame_infos(
    path: str | Path, format_name: str, root: str | Path, aliases: Iterable[str] = ()
) -> dict[str, Any]:
    """Returns the content {'metainfo', 'data_list'} of an info file of `tools/create_data.py <format_name>`.

    `aliases` are older names of the format, as in older info files.

    Raises:
        InputError: the file is missing, holds no frames, or was made by another tool or for another format.
    """
    hint = f'run: python tools/create_data.py {format_name} --root {root}'
    content = read_pickle(path, hint)
    if not isinstance(content, dict) or not {'metainfo', 'data_list'} <= content.keys():
        raise InputError(f'{path} is not an info file (a dict of metainfo and data_list): {hint}')
    infos = content['data_list']
    if not infos:
        raise InputError(f'{path} holds no frames: {hint}')
    if not isinstance(content['metainfo'], dict) or not holds_frames(infos):
        raise InputError(f'{path}: data_list is not a list of frames, or metainfo is not a dict: {hint}')
    made_for = content['metainfo'].get('dataset')
    if made_for not in (format_name, *aliases) or not holds_frames(infos, 'frame_id', 'labelled'):
        raise InputError(f'{path} was made by another tool or for {made_for!r}, not for {format_name!r}: {hint}')
    return content


def require_classes(path: str | Path, wanted: Iterable[str], content: dict[str, Any]) -> None:
    """Raises InputError for a class that the info file does not list.

    An info file that lists none has no labels; a training reports that when it counts its objects.
    """
    known: Sequence[str] = [name for name in content['metainfo']['categories'] if name != 'DontCare']
    for name in wanted:
        if known and name not in known:
            raise unknown_name(f'class (of {path})', name, known)


def label_by_name(info: dict[str, Any], classes: Sequence[str]) -> None:
    """Sets the labels of an info's instances to the indices of their classes in `classes`, -1 for other classes."""
    label_of = {name: label for label, name in enumerate(classes)}
    for instance in info['instances']:
        instance['bbox_label'] = instance['bbox_label_3d'] = label_of.get(instance['name'], -1)
