"""Train what ships in ``data/checkpoints``. ``make checkpoints`` (needs MNIST and Shakespeare).

``python -m genlib.authoring.train [NAME…]`` trains some of them; a new classifier
changes every FCD.
"""

import sys
import time

import numpy as np

from genlib import UserError, metrics
from genlib.data import checkpoints
from genlib.data.images import load_images, to_model, to_unit
from genlib.data.texts import load_text
from genlib.models import codes, diffusion, gan, gpt, pixels, rnn, tokenizers, vae, vq
from genlib.runs.run import environment
from genlib.training import Batches, Muon, Windows, keras, text_muon, warmup_cosine


def classifier(dataset, epochs):
    """Train and publish ``classifier_<dataset>``, a judge, on the part that is the judge's."""
    data, began = load_images(dataset), time.time()
    model = metrics.train_classifier(data, epochs)
    logits = np.asarray(model(to_model(data.test_images), training=False))
    accuracy = float(np.mean(logits.argmax(-1) == data.test_labels))
    print(f"classifier_{dataset}: accuracy {accuracy:.4f} on {len(data.test_images):,} test images")
    _publish(model, f"classifier_{dataset}", data, began, {"accuracy": accuracy}, epochs=epochs)


def best_gan(epochs=18, width=24, latent_dim=64):
    """Train and publish ``gan_mnist``: lesson 02's recipe, longer."""
    data, began = load_images("mnist"), time.time()
    parameters = {"image_shape": list(data.shape), "latent_dim": latent_dim, "width": width}
    model = gan.build_gan(**parameters)
    model.compile(optimizer=gan.PlayerAdam())
    model.fit(Batches(data.images, 64).stream(), epochs=epochs, shuffle=False, verbose=2)
    judge, drawn = metrics.Judge(data), model.generate(5000, seed=1)
    fcd = metrics.measure_fcd(drawn, data, judge=judge)
    shares = metrics.class_shares(judge(drawn)[1], judge.num_classes)
    print(fcd, shares.round(2))
    results = {"fcd": fcd.as_dict(), "class_shares": shares.tolist()}
    _publish(model, "gan_mnist", data, began, results, parameters, epochs=epochs)


def best_vae(epochs=36, width=16, latent_dim=32, batch_size=64, learning_rate=2e-3):
    """Train and publish ``vae_mnist``: lesson 04's recipe, longer."""
    data, began = load_images("mnist"), time.time()
    parameters = {"image_shape": list(data.shape), "latent_dim": latent_dim, "width": width}
    model, batches = vae.build_vae(**parameters), Batches(data.images, batch_size)
    rate = keras.optimizers.schedules.CosineDecay(learning_rate, epochs * len(batches))
    model.compile(optimizer=keras.optimizers.Adam(rate))
    model.fit(batches.stream(), epochs=epochs, shuffle=False, verbose=2)
    reconstruction, kl = model.elbo_terms(to_model(data.test_images))
    fcd = metrics.measure_fcd(model.generate(5000, seed=1), data, judge=metrics.Judge(data))
    results = {"elbo": -float((reconstruction + kl.sum(1)).mean()), "fcd": fcd.as_dict()}
    print(results)
    _publish(model, "vae_mnist", data, began, results, parameters, epochs=epochs)


def best_diffusion(name="diffusion_mnist", num_classes=0, epochs=8, batch_size=64):
    """Train and publish ``diffusion_mnist``, or, told labels, ``guided_mnist``.

    Only the averaged network is published: it draws the samples.
    """
    data, began = load_images("mnist"), time.time()
    parameters = {"image_shape": list(data.shape), "num_classes": num_classes}
    model = diffusion.build_diffusion(**parameters)
    batches = Batches(data.images, batch_size, labels=data.labels if num_classes else None)
    model.compile(optimizer=Muon(warmup_cosine(5e-3, epochs * len(batches)), adam_lr_ratio=0.4))
    model.fit(batches.stream(), epochs=epochs, shuffle=False, verbose=2)
    judge, labels = metrics.Judge(data), np.arange(5000) % 10 if num_classes else None
    drawn = model.generate(5000, eta=1.0, labels=labels, seed=1)
    results = {"fcd": metrics.measure_fcd(drawn, data, judge=judge).as_dict()}
    if num_classes:
        results["label_accuracy"] = float(np.mean(judge(drawn)[1] == labels))
    print(results)
    _publish(model.average, name, data, began, results, parameters, epochs=epochs)


def best_pixels(epochs=1, batch_size=16):
    """Train and publish ``pixels_mnist``, which reads each training image once."""
    data, began = load_images("mnist"), time.time()
    parameters = {"image_shape": list(data.shape), "levels": 4, "patch": 2}
    model = pixels.build_pixels(**parameters)
    batches = pixels.PixelBatches(data.images, model.tokenizer, batch_size)
    model.compile(optimizer=text_muon(1e-2, epochs * len(batches)), jit_compile=True)
    model.fit(batches.stream(), epochs=epochs, shuffle=False, verbose=2)
    fcd = metrics.measure_fcd(model.generate(2000, seed=1), data, judge=metrics.Judge(data))
    nats = float(model.nats_per_image(data.test_images).mean())
    results = {"nats_per_image": nats, "fcd": fcd.as_dict()}
    print(results)
    _publish(model, "pixels_mnist", data, began, results, parameters, epochs=epochs)


def best_vq(epochs=6, batch_size=64):
    """Train and publish ``vq_mnist``: lesson 05's autoencoder, longer."""
    data, began = load_images("mnist"), time.time()
    parameters = {"image_shape": list(data.shape), "num_codes": 128, "dim": 8}
    model, batches = vq.build_vqvae(**parameters), Batches(data.images, batch_size)
    rate = keras.optimizers.schedules.CosineDecay(2e-3, epochs * len(batches))
    model.compile(optimizer=keras.optimizers.Adam(rate))
    model.fit(batches.stream(), epochs=epochs, shuffle=False, verbose=2)
    found = model.encode(to_model(data.test_images))
    error = np.sqrt(np.mean((model.decode(found) - to_unit(data.test_images)) ** 2))
    results = {"error": float(error), "codes_used": len(np.unique(found)) / 128}
    print(results)
    _publish(model, "vq_mnist", data, began, results, parameters, epochs=epochs)


def best_codes(epochs=2, batch_size=32):
    """Train and publish ``codes_mnist``, which writes codes of ``vq_mnist``: lesson 05's prior."""
    data, began, decoder = load_images("mnist"), time.time(), vq.load_vqvae()
    parameters = {"num_codes": 128, "length": 49, "num_words": 10}
    model = codes.build_codes(**parameters)
    texts = decoder.encode(to_model(data.images))
    batches = codes.CodeBatches(model.tokenizer, data.labels, texts, batch_size)
    model.compile(optimizer=text_muon(1e-2, epochs * len(batches)), jit_compile=True)
    model.fit(batches.stream(), epochs=epochs, shuffle=False, verbose=2)
    drawn = decoder.decode(model.generate(np.arange(5000) % 10, seed=1))
    results = {"fcd": metrics.measure_fcd(drawn, data, judge=metrics.Judge(data)).as_dict()}
    print(results)
    _publish(model, "codes_mnist", data, began, results, parameters, epochs=epochs)


def best_language_model(name, build, epochs, batch_size, tokenizer="characters", **sizes):
    """Train and publish a model of Shakespeare: the recipes of lessons 08, 09 and 10, longer."""
    data, began = load_text("shakespeare"), time.time()
    tokenizer = tokenizers.TOKENIZERS[tokenizer](data.train, vocab_size=512)
    model = build(tokenizer, **sizes)
    windows = Windows(tokenizer.encode(data.train), model.context_length, batch_size)
    model.compile(optimizer=text_muon(1e-2, epochs * len(windows)), jit_compile=True)
    model.fit(windows.stream(), epochs=epochs, shuffle=False, verbose=2)
    bits = model.bits_per_character(data.test, stride=model.context_length // 2)
    results = {
        "bits_per_character": bits,
        "loss": float(model.cross_entropy(data.test).mean()),
    }
    print(results)
    _publish(model, name, data, began, results, model.get_config(), epochs=epochs)


def _publish(model, name, data, began, results, parameters=None, epochs=None):
    images = hasattr(data, "images")
    checkpoints.publish(
        model,
        name,
        dataset={"name": data.name, "sha256": data.sha256},
        **({"shape": list(data.shape), "num_classes": len(data.class_names)} if images else {}),
        parameters=parameters or {},
        epochs=epochs,
        metrics=results,
        seconds=round(time.time() - began),
        **environment(),
    )


RECIPES = {
    "classifier_digits": lambda: classifier("digits", epochs=60),
    "classifier_mnist": lambda: classifier("mnist", epochs=15),
    "classifier_cifar10": lambda: classifier("cifar10", epochs=15),
    "gan_mnist": best_gan,
    "vae_mnist": best_vae,
    "diffusion_mnist": best_diffusion,
    "lstm_shakespeare": lambda: best_language_model(
        "lstm_shakespeare", rnn.LSTMModel, epochs=6, batch_size=32, units=384, context_length=128
    ),
    "gpt_shakespeare": lambda: best_language_model(
        "gpt_shakespeare", gpt.GPT, epochs=6, batch_size=16, context_length=256
    ),
    "gpt_pieces": lambda: best_language_model(
        "gpt_pieces", gpt.GPT, epochs=6, batch_size=16, tokenizer="bpe", context_length=128
    ),
    "pixels_mnist": best_pixels,
    "vq_mnist": best_vq,
    "codes_mnist": best_codes,
    "guided_mnist": lambda: best_diffusion("guided_mnist", num_classes=10),
}

if __name__ == "__main__":
    keras.utils.set_random_seed(0)
    try:
        for recipe in sys.argv[1:] or RECIPES:
            RECIPES[recipe]()
    except (UserError, KeyError) as error:
        sys.exit(f"{error}; there are {', '.join(RECIPES)}")
