"""Submission files of nuScenes' detection benchmark, read with a check of all that its devkit would refuse."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from perception3d.checks import InputError
from perception3d.files import read_json

if TYPE_CHECKING:
    from nuscenes import NuScenes
    from nuscenes.eval.detection.data_classes import DetectionConfig

Boxes = list[dict[str, Any]]


@dataclass(frozen=True)
class _Field:
    """Numbers of a box: their shape, what is asked of them, and whether a box may lack them."""

    name: str
    shape: tuple[int, ...]
    expected: str
    optional: bool = False

    def fits(self, values: Sequence[Any]) -> bool:
        """Whether the values of some boxes are what is expected."""
        try:
            numbers = np.array(values)
        except ValueError:
            return False
        # No type is asked for in np.array, which would take the text '1' for a number.
        if numbers.dtype.kind not in 'if' or numbers.shape != (len(values), *self.shape):
            return False
        return self._possible(numbers)

    def _possible(self, numbers: npt.NDArray[Any]) -> bool:
        if self.name == 'velocity':
            return not np.isinf(numbers).any()
        if not np.isfinite(numbers).all():
            return False
        if self.name == 'size':
            return bool((numbers > 0).all())
        return self.name != 'rotation' or bool(numbers.any(axis=1).all())


_FIELDS = (
    _Field('translation', (3,), '3 finite numbers'),
    _Field('size', (3,), '3 finite numbers above 0'),
    _Field('rotation', (4,), '4 finite numbers, not all 0'),
    # The devkit takes NaN: annotations have it where an object is seen once.
    _Field('velocity', (2,), '2 numbers, finite or NaN'),
    _Field('detection_score', (), 'a finite number'),
    _Field('ego_translation', (3,), '3 finite numbers', optional=True),
    _Field('num_pts', (), 'a finite number', optional=True),
)
_TEXTS = ('sample_token', 'detection_name', 'attribute_name')
_KEYS = (*_TEXTS, *(field.name for field in _FIELDS if not field.optional))


def read_submission(path: str | Path, nusc: NuScenes, config: DetectionConfig) -> dict[str, Boxes]:
    """Returns `results` of a submission file: sample token -> boxes in the global frame.

    Raises:
        InputError: the file, a sample or a value of a box is one that the benchmark would refuse; names file, sample,
            box, field and value.
    """
    content = read_json(path, 'give a submission in the nuScenes detection format')
    results = content.get('results') if isinstance(content, dict) else None
    if not isinstance(results, dict):
        raise InputError(f'{path} is not a nuScenes submission: it has no dict "results" from sample token to boxes')
    if not results:
        raise InputError(f'{path} has no results: give every sample a list, an empty one without detections')
    known = {sample['token'] for sample in nusc.sample}
    for token, boxes in results.items():
        if token not in known:
            raise InputError(f'{path} has results for sample {token}, which is not in the tables of {nusc.version}')
        if not isinstance(boxes, list) or not all(isinstance(box, dict) for box in boxes):
            raise InputError(f'{path}, sample {token}: expected a list of boxes, each a dict, got {_shown(boxes)}')
        if len(boxes) > config.max_boxes_per_sample:
            limit = config.max_boxes_per_sample
            raise InputError(f'{path} has {len(boxes)} boxes for sample {token}: at most {limit} are allowed')
        _require_keys(path, token, boxes)
        _require_texts(path, token, boxes, config)
        _require_numbers(path, token, boxes)
    return results


def _require_keys(path: str | Path, token: str, boxes: Boxes) -> None:
    for box in boxes:
        lacking = [key for key in _KEYS if key not in box]
        if lacking:
            raise InputError(f'{path} has a box without {lacking[0]} (sample {token})')


def _require_texts(path: str | Path, token: str, boxes: Boxes, config: DetectionConfig) -> None:
    from nuscenes.eval.detection.constants import ATTRIBUTE_NAMES

    attributes = ('', *ATTRIBUTE_NAMES)
    for index, box in enumerate(boxes):
        name, attribute = box['detection_name'], box['attribute_name']
        if not isinstance(name, str) or name not in config.class_range:
            raise InputError(f'{path} has a box of the unknown class {_shown(name)} (sample {token})')
        if attribute not in attributes:
            expected = f'an empty text, or one of {", ".join(ATTRIBUTE_NAMES)}'
            raise _wrong(path, token, index, 'attribute_name', attribute, expected)
        if box['sample_token'] != token:
            # The devkit would look for the ground truth of the other sample.
            raise _wrong(
                path, token, index, 'sample_token', box['sample_token'], 'the sample that the box is listed in'
            )


def _require_numbers(path: str | Path, token: str, boxes: Boxes) -> None:
    for field in _FIELDS:
        those = [(index, box[field.name]) for index, box in enumerate(boxes) if field.name in box]
        # All at once, since a submission has millions of boxes; one by one to find the first that is wrong.
        if not those or field.fits([value for _, value in those]):
            continue
        for index, value in those:
            if not field.fits([value]):
                raise _wrong(path, token, index, field.name, value, field.expected)


def _wrong(path: str | Path, token: str, index: int, field: str, value: Any, expected: str) -> InputError:
    return InputError(f'{path}, sample {token}, box {index}: {field} is {_shown(value)}, expected {expected}')


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f'{text[:77]}...'
