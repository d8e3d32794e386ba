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


def listed_counts(counts: Mapping[str, int]) -> str:
    """Returns `car 5, truck 2`."""
    return ', '.join(f'{name} {count}' for name, count in counts.items())
