"""From the categories of nuScenes-format tables to the classes of a detector, and what is left out on the way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from perception3d.checks import InputError, unknown_name

if TYPE_CHECKING:
    from nuscenes import NuScenes


class ClassSettings(Protocol):
    """The classes that are asked for.

    Attributes:
        classes: their names by label.
        category_map: (category, class) pairs in addition to the mapping of the benchmark.
    """

    @property
    def classes(self) -> tuple[str, ...]: ...

    @property
    def category_map(self) -> tuple[tuple[str, str], ...]: ...


def parse_map(items: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Returns (category, class) pairs of texts `category=class`; InputError for another form or a category twice."""
    pairs: list[tuple[str, str]] = []
    for item in items:
        category, found, name = item.partition('=')
        if not found or not category or not name:
            raise InputError(f'--map {item!r}: expected CATEGORY=CLASS, such as vehicle.forklift=forklift')
        if category in dict(pairs):
            raise InputError(f'--map gives the category {category} two classes, {dict(pairs)[category]} and {name}')
        pairs.append((category, name))
    return tuple(pairs)


def class_of_categories(nusc: NuScenes, settings: ClassSettings) -> dict[str, str]:
    """Returns category -> class for the categories of the tables that have one of the classes.

    A category of `category_map` has the class given there, any other that of the nuScenes benchmark.

    Raises:
        InputError: `category_map` names a category that the tables do not have or a class that is not among the
            classes; no category can have one of the classes; a class is named twice.
    """
    from nuscenes.eval.detection.constants import DETECTION_NAMES
    from nuscenes.eval.detection.utils import category_to_detection_name

    known, own = [row['name'] for row in nusc.category], dict(settings.category_map)
    if len(set(settings.classes)) < len(settings.classes):
        raise InputError(f'--classes names a class twice: {", ".join(settings.classes)}')
    for category, name in own.items():
        if category not in known:
            raise unknown_name(f'category (--map, of {nusc.version})', category, known)
        if name not in settings.classes:
            raise unknown_name('class (--map; name it in --classes too)', name, settings.classes)
    mapping = {category: own.get(category) or category_to_detection_name(category) for category in known}
    kept = {category: name for category, name in mapping.items() if name in settings.classes}
    for name in settings.classes:
        if name not in DETECTION_NAMES and name not in own.values():
            raise InputError(
                f'no category has the class {name!r}: give it one with --map CATEGORY={name}; categories of '
                f'{nusc.version}: {", ".join(sorted(known))}'
            )
    return kept


def dropped_categories(nusc: NuScenes, scenes: Iterable[str], mapping: Mapping[str, str]) -> list[str]:
    """Returns a line that counts the boxes of each category without a class, in the scenes; nothing without such."""
    tokens = {scene['token'] for scene in nusc.scene if scene['name'] in set(scenes)}
    samples = {sample['token'] for sample in nusc.sample if sample['scene_token'] in tokens}
    boxes = [row['category_name'] for row in nusc.sample_annotation if row['sample_token'] in samples]
    dropped = Counter(name for name in boxes if name not in mapping)
    if not dropped:
        return []
    listed = ', '.join(f'{count} of {name}' for name, count in dropped.most_common())
    some = next(iter(dropped.most_common()))[0]
    return [
        f'{sum(dropped.values())} of {len(boxes)} boxes are dropped, their categories have no class: {listed}; '
        f'--map {some}=CLASS keeps one'
    ]
