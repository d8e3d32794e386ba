"""What evaluations say of objects that they leave out, in one line for each reason."""

from __future__ import annotations

from collections.abc import Mapping


def describe_ignored(objects: str, ignored: Mapping[str, Mapping[str, int]]) -> list[str]:
    """Returns a line for each reason: `7 boxes are not scored, since <reason>: car 5, truck 2`.

    Args:
        objects: what they are called, such as 'boxes'.
        ignored: reason -> class -> how many are not scored.
    """
    return [
        f'{sum(counts.values())} {objects} are not scored, since {reason}: {listed_counts(counts)}'
        for reason, counts in ignored.items()
    ]


def describe_other_classes(objects: str, counts: Mapping[str, int]) -> list[str]:
    """Returns a line that says how many objects of classes that are not scored are left out; none if there are none."""
    if not counts:
        return []
    listed = listed_counts(dict(sorted(counts.items())))
    return [f'{sum(counts.values())} {objects} of other classes are left out: {listed}']


def listed_counts(counts: Mapping[str, int]) -> str:
    """Returns `car 5, truck 2`."""
    return ', '.join(f'{name} {count}' for name, count in counts.items())
