"""The bundled digits, loaded once for all unit tests, none of which writes to them."""

import pytest

from genlib import data


@pytest.fixture(scope="session")
def digits():
    """The digits as ``load_images`` gives them: uint8 (N, 8, 8, 1), with labels."""
    return data.load_images("digits")


@pytest.fixture(scope="session")
def images(digits):
    """The test digits as the models take them: float32 in [-1, 1]."""
    return data.to_model(digits.test_images)
