"""What an execution of a lesson leaves behind, how lessons are run, swept and compared."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=[
        "aggregate", "cluster", "compare", "course", "execution", "figures", "ledger", "lessons",
        "pages", "params", "planning", "progress", "results", "sweep", "tables",
    ],
    submod_attrs={"results": ["Result"], "run": ["Run", "environment"]},
)  # fmt: skip
