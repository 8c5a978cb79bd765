"""Argument checks: an error names the argument, the value given and the values allowed."""

from __future__ import annotations

import difflib
import math
import sys
from collections.abc import Iterable
from numbers import Integral, Real

import numpy as np
import torch

PLACES = ("cpu", "cuda")
NO_PLACE = "MPS has no float64, and meta tensors hold no numbers."
MOST_LISTED = 40  # allowed names in a message


class UnknownName(ValueError, KeyError):
    """A key that a mapping lacks: a KeyError, so that `in` and `get` treat it as missing."""

    __str__ = ValueError.__str__


def check_key(name: str, key: object, allowed: Iterable[str]) -> str:
    """Return `key` if it is one of `allowed`: `check_choice` for the key of a mapping.

    Raises:
        UnknownName: the key is not allowed; it is both a ValueError and a KeyError.

    >>> check_key("grade", "lognorm", ("gronwall", "log_norm"))
    Traceback (most recent call last):
    ...
    sdewm.base.checks.UnknownName: grade='lognorm' is not allowed; did you mean 'log_norm'? ...
    """
    try:
        return check_choice(name, key, allowed)
    except ValueError as problem:
        raise UnknownName(str(problem)) from None


def check_choice(name: str, value: object, allowed: Iterable[str]) -> str:
    """Return `value` if it is one of `allowed`, else raise ValueError with the nearest match.

    Of more than MOST_LISTED allowed names the message lists the nearest ones only.

    >>> check_choice("driver", "smae", ("same", "independent"))
    Traceback (most recent call last):
    ...
    ValueError: driver='smae' is not allowed; did you mean 'same'? Allowed: 'same', 'independent'.
    """
    options = list(allowed)
    if isinstance(value, str) and value in options:
        return value
    near = difflib.get_close_matches(str(value), options, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    listed, rest = options, ""
    if len(options) > MOST_LISTED:
        listed = difflib.get_close_matches(str(value), options, n=5, cutoff=0.0)
        rest = f" and {len(options) - len(listed)} others"
    listing = ", ".join(repr(option) for option in listed)
    raise ValueError(f"{name}={value!r} is not allowed; {hint}Allowed: {listing}{rest}.")


def check_names(name: str, values: object, allowed: Iterable[str]) -> list[str]:
    """Return `values` as a list if it is a non-empty sequence of names from `allowed`.

    >>> check_names("grades", "log_norm", ("gronwall", "log_norm"))
    Traceback (most recent call last):
    ...
    ValueError: grades='log_norm': expected a sequence of names, such as ('gronwall',).
    """
    options = list(allowed)
    if isinstance(values, str) or not isinstance(values, Iterable) or not (given := [*values]):
        raise ValueError(
            f"{name}={values!r}: expected a sequence of names, such as ({options[0]!r},)."
        )
    return [check_choice(name, value, options) for value in given]


def check_count(name: str, value: object, minimum: int = 1, maximum: int | None = None) -> int:
    """Return `value` as int if it is a whole number in range, else raise ValueError.

    NumPy's scalars are numbers; tensors and arrays are not, whatever their shape.
    """
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    if isinstance(value, Real) and not isinstance(value, Integral) and float(value).is_integer():
        value, whole = int(float(value)), True
    upper = "" if maximum is None else f" and at most {maximum}"
    if not whole or value < minimum or (maximum is not None and value > maximum):  # type: ignore[operator]
        raise ValueError(
            f"{_given(name, value)}: expected a whole number of at least "
            f"{minimum}{upper}{_scalar(value)}."
        )
    return int(value)  # type: ignore[call-overload]


def check_finite_number(name: str, value: object) -> float:
    """Return `value` as float if it is a finite real number, else raise ValueError.

    NumPy's scalars are numbers; tensors and arrays are not, whatever their shape.

    >>> check_finite_number("t1", torch.tensor(1.5))
    Traceback (most recent call last):
    ...
    ValueError: t1 is a Tensor of shape (): expected a finite number, a scalar of ...
    """
    try:
        number = float(value) if isinstance(value, Real) and not isinstance(value, bool) else None
    except OverflowError:  # whole numbers and fractions beyond all floats
        raise ValueError(f"{name}: expected a number below {sys.float_info.max:.1e}.") from None
    if number is None or not math.isfinite(number):
        raise ValueError(f"{_given(name, value)}: expected a finite number{_scalar(value)}.")
    return number


def _given(name: str, value: object) -> str:
    """An argument that is no number in a message; of arrays the shape."""
    if isinstance(value, (torch.Tensor, np.ndarray)):
        return f"{name} is a {type(value).__name__} of shape {tuple(value.shape)}"
    return f"{name}={value!r}"


def _scalar(value: object) -> str:
    """What kind of number is meant, where an array is given."""
    array = isinstance(value, (torch.Tensor, np.ndarray))
    return ", a scalar of Python or NumPy, as x.item() is" if array else ""


def check_interval(t0: object, t1: object) -> tuple[float, float]:
    """Return (t0, t1) as floats if t0 < t1, else raise ValueError."""
    start, end = check_finite_number("t0", t0), check_finite_number("t1", t1)
    if not start < end:
        raise ValueError(f"t1={end!r}: expected a time after t0={start!r}.")
    return start, end


def check_float_dtype(name: str, dtype: object) -> torch.dtype:
    """Return `dtype` if it is float32 or float64, else raise ValueError."""
    if dtype not in (torch.float32, torch.float64):
        raise ValueError(f"{name}={dtype!r}: expected torch.float64 or torch.float32.")
    return dtype  # type: ignore[return-value]


def check_device(device: object) -> torch.device:
    """Return a usable device (default: the CPU), else raise ValueError."""
    try:
        chosen = torch.device("cpu" if device is None else device)  # type: ignore[arg-type]
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"device={device!r}: expected 'cpu' or 'cuda[:index]'.") from error
    if chosen.type not in PLACES:
        raise ValueError(f"device={str(device)!r}: expected 'cpu' or 'cuda[:index]'. {NO_PLACE}")
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device={str(device)!r}: torch finds no CUDA device; use device='cpu'.")
    return chosen


def check_place(name: str, tensor: torch.Tensor) -> torch.Tensor:
    """Return `tensor` if it lies where float64 numbers can be computed with, else ValueError.

    >>> check_place("x0", torch.zeros(2, device="meta"))
    Traceback (most recent call last):
    ...
    ValueError: x0 is on device 'meta': expected a tensor on the CPU or a CUDA device. ...
    """
    if tensor.device.type not in PLACES:
        raise ValueError(
            f"{name} is on device {str(tensor.device)!r}: expected a tensor on the CPU or a CUDA "
            f"device. {NO_PLACE}"
        )
    return tensor


def check_real_tensor(name: str, value: object) -> torch.Tensor:
    """Return `value` if it is a tensor of real numbers that can be converted to float64.

    >>> check_real_tensor("x0", torch.zeros(2).to_sparse())
    Traceback (most recent call last):
    ...
    ValueError: x0 is torch.float32, torch.sparse_coo: expected a dense tensor of real numbers.
    """
    if not isinstance(value, torch.Tensor):
        raise ValueError(f"{name}={type(value).__name__}: expected a tensor of real numbers.")
    check_place(name, value)
    tiny = value.is_floating_point() and value.dtype.itemsize < 2  # float8 has no arithmetic
    plain = value.layout == torch.strided and not (value.is_nested or value.is_quantized)
    if not plain or value.is_complex() or tiny:
        raise ValueError(
            f"{name} is {value.dtype}, {value.layout}: expected a dense tensor of real numbers."
        )
    return value


def check_output(
    name: str, value: object, shape: tuple[int, ...], like: torch.Tensor
) -> torch.Tensor:
    """Return `value` if it is a tensor of `shape` with the dtype and device of `like`.

    Raises:
        ValueError: the type, shape, dtype or device is wrong; the message gives `name`, the value
            returned and the value expected.
    """
    if not isinstance(value, torch.Tensor):
        raise ValueError(f"{name} returned {type(value).__name__}; expected a tensor {shape}.")
    if tuple(value.shape) != shape:
        raise ValueError(f"{name} returned shape {tuple(value.shape)}; expected {shape}.")
    if value.dtype != like.dtype:
        raise ValueError(
            f"{name} returned {value.dtype} for a state of {like.dtype}; both must agree: "
            f"convert the model (for a torch.nn.Module: module.to({like.dtype})) "
            f"or pass dtype={value.dtype}."
        )
    if value.device != like.device:
        raise ValueError(
            f"{name} returned a tensor on {value.device} for a state on {like.device}."
        )
    return value
