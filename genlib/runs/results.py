"""What a measurement is, in memory and in ``metrics.json``; it needs no backend to be read."""

from dataclasses import asdict, dataclass

import numpy as np

SCHEMA = 1  # of metrics.json


@dataclass(frozen=True)
class Result:
    """A measured number. ``interval`` is 95%; ``floor`` is real against real, or None where there
    is none. Where more is better, as with recall, real against real is the best to be expected."""

    name: str
    value: float
    n: int
    floor: float | None
    interval: tuple
    by: str  # what measured it

    def __str__(self):
        low, high = self.interval
        # As many digits as the interval lets mean something, for numbers of any size.
        digits = int(np.clip(np.ceil(0.5 - np.log10(high - low or 1)), 2, 6))
        floor = "" if self.floor is None else f"floor {self.floor:.{digits}f}, real against real; "
        return (
            f"{self.name} {self.value:.{digits}f}  (95% interval {low:.{digits}f} to "
            f"{high:.{digits}f}; {floor}n = {self.n:,}; by {self.by})"
        )

    def as_dict(self):
        return asdict(self)
