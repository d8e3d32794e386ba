"""What all structures share: classes, drawing in four sorts of views, JSON that gives back the same numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, TypeVar

import numpy as np
import numpy.typing as npt

from perception3d.checks import InputError
from perception3d.structures.frame import SensorFrame
from perception3d.structures.primitives import GroundMap, ImageMap, Primitive, StructureStyle
from perception3d.structures.views import BevView, CameraView, RangeView, View, View3D

Self = TypeVar('Self', bound='Structure')


@dataclass(frozen=True, kw_only=True)
class Structure:
    """Base of what a sample carries as truth or as prediction.

    A subclass is a frozen dataclass of arrays that checks its fields in `__post_init__`, with a `name` and the
    primitives of the views that can show it.

    Attributes:
        classes: names of the labels; empty: those of the data set, see `with_classes`.
    """

    name: ClassVar[str] = ''
    classes: tuple[str, ...] = ()

    def primitives(self, view: View, style: StructureStyle | None = None) -> list[Primitive]:
        """Returns what a view shows of it, in the order in which it is painted.

        Args:
            view: `CameraView`, `BevView`, `RangeView`, `View3D`, or another with a method
                `primitives_of(structure, style)`.
            style: how this source (ground truth, prediction) is drawn.
        """
        return view.primitives_of(self, style or StructureStyle())

    def in_camera(self, view: CameraView, style: StructureStyle) -> list[Primitive]:
        """Returns the primitives of a camera view, in pixels; none by default."""
        return []

    def in_bev(self, view: BevView, style: StructureStyle) -> list[Primitive]:
        """Returns the primitives of a BEV view, in pixels; none by default."""
        return []

    def in_range(self, view: RangeView, style: StructureStyle) -> list[Primitive]:
        """Returns the primitives of a range view, in pixels; none by default."""
        return []

    def in_3d(self, view: View3D, style: StructureStyle) -> list[Primitive]:
        """Returns the primitives of a 3D view, in metres of the LiDAR frame; none by default."""
        return []

    def for_frame(self: Self, frame: SensorFrame) -> Self:
        """Returns itself with what it needs of the frame's sensors, such as the points that labels belong to."""
        return self

    def against(self, truth: Sequence[Structure]) -> Structure:
        """Returns what is drawn of this prediction over the ground truth `truth`: all of it by default."""
        return self

    def beside(self, others: Sequence[Structure]) -> Structure:
        """Returns what is drawn of it next to the other structures of its source: all of it by default."""
        return self

    @property
    def names_boxes(self) -> bool:
        """Whether it writes at the boxes of its source, so that these need no texts of their own."""
        return False

    def maps(self) -> Sequence[GroundMap]:
        """Returns its maps over the ground that are drawn in panels of their own; none by default."""
        return ()

    def image_maps(self) -> Sequence[ImageMap]:
        """Returns its maps over an image that are drawn in panels of their own; none by default."""
        return ()

    def matched(self, truth: Sequence[Structure], distance_m: float) -> Structure | None:
        """Returns what of this prediction and of the ground truth is found, false or missed; None: it has no objects.

        Args:
            truth: annotated structures.
            distance_m: objects match where their middles are closer.
        """
        return None

    @property
    def needs_points(self) -> bool:
        """Whether it cannot be drawn without the points of the frame, exactly those that entered the network."""
        return False

    @property
    def has_points(self) -> bool:
        """Whether it has points of its own, so that it can be drawn in a frame without images and points."""
        return False

    def with_classes(self: Self, classes: Sequence[str]) -> Self:
        """Returns itself with these class names, where it has none."""
        return self if self.classes else replace(self, classes=tuple(map(str, classes)))

    def above(self: Self, score: float) -> Self:
        """Returns the part whose score is at least `score`; all of it where there are no scores."""
        return self

    def drawable(self: Self) -> tuple[Self, int]:
        """Returns the part that can be drawn, and how many objects were left out for numbers that are not finite."""
        return self, 0

    @property
    def has_motion(self) -> bool:
        """Whether arrows of motion may be drawn."""
        return False

    @property
    def has_scores(self) -> bool:
        """Whether `above` may leave something out."""
        return True

    @property
    def has_outlines(self) -> bool:
        """Whether it is drawn in lines, dashed for the truth and solid for predictions."""
        return True

    @property
    def has_fronts(self) -> bool:
        """Whether its objects have fronts, which pictures mark."""
        return False

    def of_points(self: Self, count: int | None) -> Self:
        """Returns the part that belongs to the first `count` points of the cloud, where it labels points."""
        return self

    def footprints(self) -> npt.NDArray[Any]:
        """Returns points (N, 2), metres along x and y of the LiDAR frame, which a BEV view should cover."""
        return np.zeros((0, 2))

    def counts(self) -> npt.NDArray[Any]:
        """Returns the number of objects of each class (K + 1,); the last one is that of unknown labels."""
        return np.zeros(len(self.classes) + 1, np.int64)

    def describe(self) -> dict[str, Any]:
        """Returns its entry of a result file for readers."""
        return {self.name: self.to_json()}

    def to_json(self) -> dict[str, Any]:
        """Returns plain lists and numbers; `from_json` makes an equal structure of them, to the last digit.

        Raises:
            InputError: a number is infinite, which JSON does not have.
        """
        return {'structure': self.name, **{f.name: _to_plain(getattr(self, f.name)) for f in fields(self)}}

    @classmethod
    def from_json(cls: type[Self], content: Mapping[str, Any]) -> Self:
        """Returns the structure of what `to_json` gave.

        Raises:
            InputError: it is another structure, fields are missing or unknown, or the numbers do not fit.
        """
        if not isinstance(content, Mapping) or content.get('structure') != cls.name:
            given = content.get('structure') if isinstance(content, Mapping) else type(content).__name__
            raise InputError(f"the JSON is not of {cls.name}: expected 'structure': {cls.name!r}, got {given!r}")
        wanted = {f.name for f in fields(cls)}
        if content.keys() - {'structure'} != wanted:
            listed = ', '.join(sorted(wanted))
            raise InputError(f'the JSON of {cls.name} has other fields: expected {listed}, got {", ".join(content)}')
        return cls(**{key: _from_plain(content[key]) for key in wanted})


def checked(what: str, value: Any, shape: Sequence[int | None], dtype: Any, finite: bool = True) -> npt.NDArray[Any]:
    """Returns `value` as an array of a shape and type.

    Args:
        what: the name of the value, for the error.
        value: array, tensor on the CPU, or nested lists.
        shape: expected sizes, None for any; an empty value gets this shape, with 0 for None.
        dtype: of the result.
        finite: refuses NaN and infinity.

    Raises:
        InputError: it has another shape, is not a number, or is not finite.
    """
    try:
        array = np.asarray(value)
        given = array.shape
        if array.shape == (0,) and None in shape:
            array = array.reshape([size or 0 for size in shape])
        if np.issubdtype(dtype, np.integer) and array.size and (array != np.floor(array)).any():
            raise InputError(f'{what}: expected whole numbers, got others')
        array = np.ascontiguousarray(array, dtype)
    except (TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f'{what}: expected an array of numbers, got {type(value).__name__} ({error})') from error
    if array.ndim != len(shape) or any(want not in (None, got) for want, got in zip(shape, array.shape)):
        listed = ', '.join('N' if size is None else str(size) for size in shape)
        raise InputError(f'{what}: expected the shape ({listed}), got {tuple(given)}')
    if finite and array.size and not np.isfinite(array).all():
        raise InputError(f'{what}: expected finite numbers, got {int((~np.isfinite(array)).sum())} that are not')
    return array


def checked_classes(what: str, classes: Any) -> tuple[str, ...]:
    """Returns class names as a tuple; raises InputError where they are not a sequence of texts."""
    if isinstance(classes, str) or not all(isinstance(name, str) for name in classes):
        raise InputError(f'{what}: expected a sequence of class names, got {classes!r}')
    return tuple(classes)


def count_labels(labels: npt.NDArray[Any], num_classes: int) -> npt.NDArray[Any]:
    """Returns how often each label occurs (num_classes + 1,); those outside 0..num_classes - 1 are counted last."""
    known = (labels >= 0) & (labels < num_classes)
    return np.bincount(np.where(known, labels, num_classes), minlength=num_classes + 1)


def _to_plain(value: Any) -> Any:
    if isinstance(value, Structure):
        return value.to_json()
    if isinstance(value, np.ndarray):
        if np.isinf(value).any():
            raise InputError('a number is infinite, which JSON does not have: leave such objects out first')
        if value.size == 0:
            # The sizes of an empty array do not show in nested lists.
            return {'empty': list(value.shape)}
        plain = value.tolist()
        return _nan_to_none(plain) if value.dtype.kind == 'f' and np.isnan(value).any() else plain
    if isinstance(value, (tuple, list)):
        return [_to_plain(entry) for entry in value]
    return value


def _nan_to_none(value: Any) -> Any:
    if isinstance(value, list):
        return [_nan_to_none(entry) for entry in value]
    return None if value != value else value


def _from_plain(value: Any) -> Any:
    if isinstance(value, Mapping) and value.keys() == {'empty'}:
        return np.zeros(value['empty'])
    if isinstance(value, list):
        return [_from_plain(entry) for entry in value]
    return value
