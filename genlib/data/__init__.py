"""Images, texts and shipped checkpoints: where they come from, and what is done to them first."""

from genlib.data.images import Images, load_images, to_model, to_uint8, to_unit
from genlib.data.parts import deduplicate, split
from genlib.data.texts import Text, load_text

__all__ = [
    "Images",
    "Text",
    "deduplicate",
    "load_images",
    "load_text",
    "split",
    "to_model",
    "to_uint8",
    "to_unit",
]
