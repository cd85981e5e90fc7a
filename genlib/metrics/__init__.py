"""Sample quality: every number with its n, its floor and its interval.

Samples come first, then what they are compared with, then options by name. ``measure_…`` takes
images or texts as they are; the others take features, classes or probabilities. Each returns a
``Result``, or {name: ``Result``}.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "images": [
            "class_coverage", "class_shares", "fcd", "frechet_distance", "inception_score", "kid",
            "measure_fcd", "measure_images", "nearest_images", "squared_mmd",
        ],
        "intervals": ["MIN_IMAGES"],
        "judge": ["Judge", "build_classifier", "load_classifier", "train_classifier"],
        "neighbours": ["balls", "density_coverage", "memorised", "precision_recall", "radii"],
        "texts": [
            "bits_per_character", "distinct_n", "longest_overlap", "measure_texts", "self_bleu",
        ],
    },
)  # fmt: skip
