"""Sample quality: every number with its n, its floor and its interval."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "images": [
            "class_coverage", "class_shares", "evaluate", "fcd", "frechet_distance",
            "inception_score", "kid", "nearest_images", "squared_mmd",
        ],
        "judge": ["Judge", "build_classifier", "load_classifier", "train_classifier"],
        "neighbours": ["balls", "density_coverage", "memorised", "precision_recall", "radii"],
        "yardstick": ["measure_images"],
        "texts": [
            "bits_per_character", "bleu", "bleu_counts", "compare_with_others", "corpus_bleu",
            "count_ngrams", "distinct_n", "longest_overlap", "self_bleu", "sentence_bleu",
        ],
        "text_yardstick": [
            "distinct_without_each", "jackknife", "measure_texts", "self_bleu_without_each",
        ],
    },
)  # fmt: skip
