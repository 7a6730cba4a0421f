"""TensorFlow Lite's integer arithmetic, to the bit: multipliers and shifts, and gemmlowp's exponential, logistic and tanh.

Sources: gemmlowp `fixedpoint/fixedpoint.h`; TensorFlow Lite `kernels/internal/quantization_util.cc` and `common.cc`
(the build with two roundings, which TensorFlow Lite Micro uses).
"""

import math
from typing import overload

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]

_ONE = 2**31 - 1  # 1.0 in Q0.31, saturated
_EXP_STEPS = (1672461947, 1302514674, 790015084, 290630308, 39332535, 720401, 242)  # exp(-2^k) in Q0.31, k = -2 .. 4
_EXP_EIGHTH = 1895147668  # exp(-1/8) in Q0.31
_THIRD = 715827883  # 1/3 in Q0.31


def quantize_multiplier(real: float) -> tuple[int, int]:
    """The multiplier in [2^30, 2^31) and the shift with real = multiplier * 2^(shift - 31); (0, 0) below 2^-32.

    Raises:
        ValueError: `real` is negative, or not finite.
    """
    if not (math.isfinite(real) and real >= 0):
        raise ValueError(f"Expected a finite multiplier from 0. Received: {real}")
    if real == 0:
        return 0, 0
    fraction, shift = math.frexp(real)
    multiplier = math.floor(fraction * 2**31 + 0.5)
    if multiplier == 2**31:
        multiplier, shift = 2**30, shift + 1
    return (0, 0) if shift < -31 else (multiplier, shift)


@overload
def high_product(a: int, b: int) -> int: ...
@overload
def high_product(a: Integers, b: Integers) -> Integers: ...
def high_product(a: int | Integers, b: int | Integers) -> int | Integers:
    """The product a * b * 2^-31, rounded to nearest, halves up (what `SaturatingRoundingDoublingHighMul` comes to)."""
    return (a * b + (1 << 30)) >> 31


def divide_by_power(value: Integers, exponent: int | Integers) -> Integers:
    """The quotient value * 2^-exponent, rounded to nearest, halves away from zero."""
    mask = (np.int64(1) << exponent) - 1
    threshold = (mask >> 1) + (value < 0)
    return np.asarray((value >> exponent) + ((value & mask) > threshold), np.int64)


def multiply(value: Integers, multiplier: int | Integers, shift: int | Integers) -> Integers:
    """`MultiplyByQuantizedMultiplier`, elementwise; what leaves 32 bits on the way wraps as it does in C."""
    left = np.maximum(shift, 0)
    shifted = ((value << left) + 2**31) % 2**32 - 2**31
    return divide_by_power(high_product(shifted, np.asarray(multiplier, np.int64)), np.maximum(np.negative(shift), 0))


def exp_on_negative(value: int, integer_bits: int) -> int:
    """exp(value * 2^(integer_bits - 31)) in Q0.31, for value <= 0 and 4 or 5 integer bits."""
    if value == 0:
        return _ONE
    fractional_bits = 31 - integer_bits
    quarter = 1 << (fractional_bits - 2)
    reduced = (value & (quarter - 1)) - quarter
    result = _exp_from_minus_quarter(_saturated(reduced << integer_bits))
    remainder = reduced - value
    for exponent, factor in enumerate(_EXP_STEPS, start=-2):
        if exponent < integer_bits and remainder & (1 << (fractional_bits + exponent)):
            result = high_product(result, factor)
    return int(result)


def logistic(value: int) -> int:
    """1 / (1 + exp(-value * 2^-27)) in Q0.31, for a value with 4 integer bits."""
    if value == 0:
        return 1 << 30
    positive = _reciprocal(exp_on_negative(-abs(value), 4))
    return positive if value > 0 else _ONE - positive


def tanh(value: int) -> int:
    """The hyperbolic tangent of value * 2^-27 in Q0.31, for a value with 4 integer bits."""
    if value == 0:
        return 0
    positive = _saturated((_twice_reciprocal(exp_on_negative(-abs(value), 5)) - (1 << 29)) << 2)
    return positive if value > 0 else -positive


def _exp_from_minus_quarter(value: int) -> int:
    """The exponential of a Q0.31 number in [-1/4, 0): Taylor's series of fourth order around -1/8."""
    x = value + (1 << 28)
    square = high_product(x, x)
    cube, fourth = high_product(square, x), high_product(square, square)
    higher = high_product(_halved(fourth, 2) + cube, _THIRD) + square
    return int(_EXP_EIGHTH + high_product(_EXP_EIGHTH, x + _halved(higher, 1)))


def _reciprocal(x: int) -> int:
    """1 / (1 + x) for a Q0.31 number in [0, 1)."""
    return _saturated(_twice_reciprocal(x) << 1)


def _twice_reciprocal(x: int) -> int:
    """2 / (1 + x) in Q2.29 for a Q0.31 number in [0, 1): three steps of Newton's method on half the denominator."""
    half = (x + _ONE + 1) // 2
    guess = 1515870810 + high_product(half, -1010580540)  # 48 / 17 - 32 / 17 * half, in Q2.29
    for _ in range(3):
        error = (1 << 29) - high_product(half, guess)
        guess += _saturated(high_product(guess, error) << 2)
    return guess


def _halved(value: int, times: int) -> int:
    return int(divide_by_power(np.asarray(value, np.int64), times))


def _saturated(value: int) -> int:
    return max(-(2**31), min(2**31 - 1, int(value)))
