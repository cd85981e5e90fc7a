"""What a measurement is, in memory and in ``metrics.json``; it needs no backend to be read."""

from dataclasses import asdict, dataclass, fields

import numpy as np

SCHEMA = 2  # of metrics.json; 1 did not tell a metric's direction and its dependence on n


@dataclass(frozen=True)
class Result:
    """A measured number. ``n``: what it was measured on, in samples. ``interval`` is 95%, ``floor``
    real against real; each is None where there is none. Where more is better, as with recall, real
    against real is the best to be expected.

    higher_is_better: its direction, None where it is not known. depends_on_n: whether its
    expectation changes with n, so that it is compared at equal n alone.
    """

    name: str
    value: float
    n: int | None
    floor: float | None
    interval: tuple | None
    by: str  # what measured it
    higher_is_better: bool | None = False
    depends_on_n: bool = False

    def __str__(self):
        low, high = self.interval or (self.value, self.value)
        # As many digits as the interval lets mean something, for numbers of any size.
        digits = int(np.clip(np.ceil(0.5 - np.log10(high - low or 1)), 2, 6))
        told = []
        if self.interval is not None:
            told.append(f"95% interval {low:.{digits}f} to {high:.{digits}f}")
        if self.floor is not None:
            told.append(f"floor {self.floor:.{digits}f}, real against real")
        if self.n is not None:
            told.append(f"n = {self.n:,}")
        return f"{self.name} {self.value:.{digits}f}  ({'; '.join([*told, f'by {self.by}'])})"

    def as_dict(self):
        """The fields, as ``metrics.json`` holds them."""
        return asdict(self)

    @classmethod
    def from_dict(cls, stored):
        """The ``Result`` of what ``as_dict`` gave, of schema 1 too, which knew no direction; None
        for anything else."""
        known = {field.name for field in fields(cls)}
        old = known - {"higher_is_better", "depends_on_n"}
        if not isinstance(stored, dict) or not old <= stored.keys() <= known:
            return None
        told = {"higher_is_better": None, "depends_on_n": stored["floor"] is not None} | stored
        if told["interval"] is not None:
            told["interval"] = tuple(float(end) for end in told["interval"])
        return cls(**told)
