"""The assignment of lanes to lanes as CULane's official tool makes it, which is not always the best one."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_TOLERANCE = 1e-2
"""Edges whose weight differs by less from the sum of the labels of their ends count as tight."""
_LOWEST, _UNBOUNDED = -1e5, 1e10


def match_lanes(weights: npt.NDArray[np.float64]) -> list[int]:
    """Returns for each row of the weights (R, C) its column, -1 for none.

    The method of Kuhn and Munkres for the largest sum, from the shorter side, rows and columns in order, as the
    official tool has it. Its tolerance of 0.01 may leave a sum that is smaller than the largest one. A NaN is no edge:
    a row of NaN ends the assignment, so that it and the rows after it have no column.
    """
    rows, columns = weights.shape
    if rows <= columns:
        return _Assignment(weights).solve()
    partners = [-1] * rows
    for column, row in enumerate(_Assignment(weights.T).solve()):
        if row >= 0:
            partners[row] = column
    return partners


class _Assignment:
    """Labels of rows and columns, and the edges that are matched so far; there are at least as many columns as rows."""

    def __init__(self, weights: npt.NDArray[np.float64]) -> None:
        self.weights: list[list[float]] = weights.tolist()
        self.row_label: list[float] = [max([_LOWEST, *(w for w in row if w == w)]) for row in self.weights]
        self.column_label = [0.0] * weights.shape[1]
        self.column_of = [-1] * weights.shape[0]
        self.row_of = [-1] * weights.shape[1]
        self.seen_rows: set[int] = set()
        self.seen_columns: set[int] = set()

    def solve(self) -> list[int]:
        for row in range(len(self.weights)):
            while not self._augment(row):
                if not self._change_labels():
                    return self.column_of
        return self.column_of

    def _slack(self, row: int, column: int) -> float:
        return self.row_label[row] + self.column_label[column] - self.weights[row][column]

    def _augment(self, row: int) -> bool:
        """Looks, depth first, for a path of tight edges from a row to a free column, and matches along it."""
        self.seen_rows, self.seen_columns = {row}, set()
        # A stack in place of recursion: files of a thousand blank lines make paths as long.
        path = [[row, -1]]
        while path:
            end = path[-1]
            column = self._next_tight(end[0], end[1] + 1)
            if column < 0:
                path.pop()
                continue
            end[1] = column
            self.seen_columns.add(column)
            if self.row_of[column] < 0:
                for here, there in path:
                    self.row_of[there], self.column_of[here] = here, there
                return True
            self.seen_rows.add(self.row_of[column])
            path.append([self.row_of[column], -1])
        return False

    def _next_tight(self, row: int, start: int) -> int:
        for column in range(start, len(self.column_label)):
            if column not in self.seen_columns and abs(self._slack(row, column)) < _TOLERANCE:
                return column
        return -1

    def _change_labels(self) -> bool:
        """Makes one more edge tight; False where no edge is left."""
        least = _UNBOUNDED
        for row in self.seen_rows:
            for column in range(len(self.column_label)):
                if column not in self.seen_columns:
                    slack = self._slack(row, column)
                    # False for NaN, which is no edge.
                    if slack < least:
                        least = slack
        if least == _UNBOUNDED:
            return False
        for row in self.seen_rows:
            self.row_label[row] -= least
        for column in self.seen_columns:
            self.column_label[column] += least
        return True
