"""Exercises: handed out without their solutions, checked at once."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "checks": ["NotYet", "answered", "check", "close", "numbers"],
        "exercises": ["find_exercises", "hand_out", "notebooks", "open_lab", "released"],
    },
)
