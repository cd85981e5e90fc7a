"""What all families promise alike: one grammar of ``generate``, and files that stay readable."""

import pytest

import genlib.models.vq  # noqa: F401  (registers its classes)
from genlib import UserError
from genlib.models import diffusion, gan, gpt, ngram, pixels, rnn, tokenizers, vae
from genlib.training.backend import keras

SHAPE = (8, 8, 1)
LETTERS = tokenizers.CharTokenizer("ab\n")
IMAGES = {
    "gan": lambda: gan.build_gan(SHAPE, 4, 4),
    "conditional gan": lambda: gan.build_gan(SHAPE, 4, 4, num_classes=3),
    "vae": lambda: vae.build_vae(SHAPE, 4, 4),
    "diffusion": lambda: diffusion.build_diffusion(SHAPE, network={"width": 4, "levels": 1}),
    "pixels": lambda: pixels.build_pixels(SHAPE, 2, 4, num_layers=1, num_heads=1, model_dim=4),
}
TEXTS = {
    "gpt": lambda: gpt.GPT(LETTERS, 1, 1, 4, 4),
    "lstm": lambda: rnn.LSTMModel(LETTERS, 4, 4, 4),
    "counting": lambda: ngram.NGram(LETTERS, 2).fit("ab\nab\n"),
}


@pytest.mark.parametrize("build", IMAGES.values(), ids=IMAGES)
def test_a_number_of_images_that_is_none_is_refused(build):
    model = build()
    for n in (0, -1, 2.5, "3", True, None):
        with pytest.raises(UserError, match=f"n={n!r} is not possible; give a whole number from 1"):
            model.generate(n)
    with pytest.raises(UserError, match="n"):
        model.generate()


@pytest.mark.parametrize("build", (IMAGES | TEXTS).values(), ids=IMAGES | TEXTS)
def test_options_go_by_name_and_an_unknown_one_names_the_nearest(build):
    model = build()
    with pytest.raises(UserError, match=r"'sede'.*by name: .*seed.* Did you mean 'seed'"):
        model.generate(5, sede=1)
    with pytest.raises(UserError, match="too many positional arguments; give options by name"):
        model.generate(5, 5, 5)


@pytest.mark.parametrize("build", TEXTS.values(), ids=TEXTS)
def test_prompts_that_are_no_text_are_refused(build):
    model = build()
    for prompts in (5, None, ["a", 5]):
        with pytest.raises(UserError, match="is not possible; give a text or a list of texts"):
            model.generate(prompts)
    assert model.generate([]) == []


def test_the_names_by_which_saved_models_are_found_stay_as_they_are():
    registered = {name for name in keras.saving.get_custom_objects() if name.startswith("genlib>")}
    assert registered == {
        *("genlib>BPETokenizer", "genlib>Block", "genlib>CausalSelfAttention"),
        *("genlib>CharTokenizer", "genlib>CodeGPT", "genlib>CodeTokens", "genlib>ConditionalGAN"),
        *("genlib>DiffusionModel", "genlib>FiniteScalarQuantizer", "genlib>GAN", "genlib>GPT"),
        *("genlib>LSTMModel", "genlib>Muon", "genlib>PixelGPT", "genlib>PixelTokenizer"),
        *("genlib>PlayerAdam", "genlib>TimeEmbedding", "genlib>VAE", "genlib>VQVAE"),
        "genlib>VectorQuantizer",
    }
