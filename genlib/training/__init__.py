"""How models are trained: the backend, batches, optimizers, and what watches them learn."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "backend": ["compiled", "keras"],
        "batches": ["Batches", "Shuffled", "Windows", "passes"],
        "callbacks": ["Drafts", "Snapshots"],
        "optimizers": ["Muon", "text_muon", "update_average", "warmup_cosine"],
        "recorder": ["Damaged", "Recorder", "fit", "load_state", "save_state"],
    },
)
