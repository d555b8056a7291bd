"""Numbers that differ as units do: 59 for 15 is Fahrenheit for Celsius."""

from __future__ import annotations

from collections.abc import Callable

_UNITS: tuple[tuple[str, Callable[[float], float]], ...] = (
    ("Fahrenheit for Celsius", lambda x: x * 1.8 + 32),
    ("Celsius for Fahrenheit", lambda x: (x - 32) / 1.8),
    ("kelvin for Celsius", lambda x: x + 273.15),
    ("a hundredfold, such as cents", lambda x: x * 100),
    ("a hundredth, such as cents before", lambda x: x / 100),
    ("a thousandfold, such as milliseconds for seconds", lambda x: x * 1000),
    ("a thousandth, such as seconds for milliseconds", lambda x: x / 1000),
    ("miles for kilometres", lambda x: x / 1.609344),
    ("kilometres for miles", lambda x: x * 1.609344),
    ("m/s for km/h", lambda x: x / 3.6),
    ("km/h for m/s", lambda x: x * 3.6),
    ("inches for millimetres", lambda x: x / 25.4),
)
_ROUNDED = 0.15
"""What rounding both to one decimal can make of a number that is then multiplied."""
_CLOSE = 0.003


def unit_of(right: float, said: float) -> str:
    """Return the change of unit that makes one number of another; empty where none does, or any would."""
    if abs(right - said) <= 2 * _ROUNDED:
        return ""
    for name, convert in _UNITS:
        wanted = convert(right)
        room = _CLOSE * abs(wanted) + (_ROUNDED if abs(wanted) >= 5 else 0.01 * abs(wanted))
        if abs(wanted - said) <= room:
            return name
    return ""
