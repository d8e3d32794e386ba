"""Rows copied past the caches, for outputs that no cache holds.

An ordinary store first reads the line that it writes; on outputs of hundreds of megabytes that is a third of the
traffic. Stores past the caches do not, and rows that are prefetched arrive while others are written. Both need
instructions that numba does not offer, so this file makes them with LLVM.

This is the one exception from the rule that a kernel earns its place with 10 % of an end-to-end time: the gather is a
smaller part of Fast-BEV's time, but it is the step that the method is about. For Fast-BEV M5 it takes 22.9 ms in fp32
and 11.8 ms in bf16 with these stores, 67.8 and 37.9 ms with ordinary ones. Nothing depends on it: where `can_stream`
says no, and for smaller outputs, `scatter.gather_rows` copies rows by a plain loop with the same result.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import njit, prange, types
from numba.core import cgutils
from numba.extending import intrinsic

_BYTES, _INT32 = ir.IntType(8), ir.IntType(32)
_VECTOR = ir.VectorType(ir.IntType(64), 4)
_VECTOR_BYTES, _LINE_BYTES = 32, 64
# Rows between the one that is written and the one that is prefetched.
_AHEAD = 12
_PARTS_A_THREAD = 8


def can_stream(source: npt.NDArray[Any], target: npt.NDArray[Any]) -> bool:
    """Whether `stream_rows` takes these rows: 16 or 32 words of 8 bytes, and a target on a boundary of 32 bytes."""
    fits = source.dtype == np.int64 and source.shape[1] in (16, 32)
    return fits and source.flags.c_contiguous and target.flags.c_contiguous and target.ctypes.data % _VECTOR_BYTES == 0


def stream_rows(source: npt.NDArray[Any], table: npt.NDArray[Any], target: npt.NDArray[Any]) -> None:
    """Writes row `table[n]` of `source` (R, W) int64 into row n of `target` (N, W), zeros where `table` (N,) is -1."""
    _stream(source, table, target, min(len(table), _PARTS_A_THREAD * numba.get_num_threads()))


def _row_pointer(context: Any, builder: Any, array_type: Any, array: Any, row: Any, row_type: Any) -> Any:
    made = context.make_array(array_type)(context, builder, array)
    step = cgutils.unpack_tuple(builder, made.strides)[0]
    offset = builder.mul(context.cast(builder, row, row_type, types.intp), step)
    return builder.gep(builder.bitcast(made.data, _BYTES.as_pointer()), [offset])


def _store(builder: Any, value: Any, pointer: Any, place: int) -> None:
    stored = builder.store(value, builder.gep(pointer, [_INT32(place)]))
    stored.align = _VECTOR_BYTES
    stored.set_metadata('nontemporal', builder.module.add_metadata([_INT32(1)]))


@intrinsic
def _prefetch_row(typing_context, source, row):
    def generate(context, builder, signature, arguments):
        args = signature.args
        start = _row_pointer(context, builder, args[0], arguments[0], arguments[1], args[1])
        name = 'llvm.prefetch.p0' if getattr(start.type, 'is_opaque', False) else 'llvm.prefetch.p0i8'
        function = ir.FunctionType(ir.VoidType(), [start.type, _INT32, _INT32, _INT32])
        prefetch = cgutils.get_or_insert_function(builder.module, function, name)
        for offset in (0, _LINE_BYTES):
            # To be read, to stay in all caches, data.
            builder.call(prefetch, [builder.gep(start, [_INT32(offset)]), _INT32(0), _INT32(3), _INT32(1)])
        return context.get_dummy_value()

    return types.void(source, row), generate


@intrinsic(prefer_literal=True)
def _stream_row(typing_context, target, n, source, row, words):
    vectors = words.literal_value // 4

    def generate(context, builder, signature, arguments):
        args = signature.args
        to, start = (
            builder.bitcast(
                _row_pointer(context, builder, args[i], arguments[i], arguments[i + 1], args[i + 1]),
                _VECTOR.as_pointer(),
            )
            for i in (0, 2)
        )
        for place in range(vectors):
            value = builder.load(builder.gep(start, [_INT32(place)]))
            value.align = 8
            _store(builder, value, to, place)
        return context.get_dummy_value()

    return types.void(target, n, source, row, words), generate


@intrinsic(prefer_literal=True)
def _stream_zeros(typing_context, target, n, words):
    vectors = words.literal_value // 4

    def generate(context, builder, signature, arguments):
        args = signature.args
        start = _row_pointer(context, builder, args[0], arguments[0], arguments[1], args[1])
        to = builder.bitcast(start, _VECTOR.as_pointer())
        for place in range(vectors):
            _store(builder, ir.Constant(_VECTOR, [0] * 4), to, place)
        return context.get_dummy_value()

    return types.void(target, n, words), generate


@intrinsic
def _fence(typing_context):
    def generate(context, builder, signature, arguments):
        builder.fence('seq_cst')
        return context.get_dummy_value()

    return types.void(), generate


@njit(cache=True, parallel=True)
def _stream(source, table, target, parts):
    wide = source.shape[1] == 32
    for part in prange(parts):
        low, high = table.size * part // parts, table.size * (part + 1) // parts
        for n in range(low, high):
            if n + _AHEAD < high and table[n + _AHEAD] >= 0:
                _prefetch_row(source, table[n + _AHEAD])
            # The widths are constants, so that every row is a few stores without a loop.
            if table[n] < 0 and wide:
                _stream_zeros(target, n, 32)
            elif table[n] < 0:
                _stream_zeros(target, n, 16)
            elif wide:
                _stream_row(target, n, source, table[n], 32)
            else:
                _stream_row(target, n, source, table[n], 16)
        # Such stores may be seen late by other threads unless their thread waits for them.
        _fence()
