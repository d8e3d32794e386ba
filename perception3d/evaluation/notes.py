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
        f'{sum(counts.values())} {objects} are not scored, since {reason}: {_listed(counts)}'
        for reason, counts in ignored.items()
    ]


def describe_other_classes(objects: str, counts: Mapping[str, int]) -> list[str]:
    """Returns a line that counts objects of classes that are not scored, by class; no line where there are none."""
    if not counts:
        return []
    return [f'{sum(counts.values())} {objects} of other classes are left out: {_listed(dict(sorted(counts.items())))}']


def _listed(counts: Mapping[str, int]) -> str:
    return ', '.join(f'{name} {count}' for name, count in counts.items())
