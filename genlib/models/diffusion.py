"""Diffusion models (Ho et al. 2020) and rectified flows (Liu et al. 2023) of images. Their
schedules and samplers are in ``models.samplers``, their network in ``models.unet``."""

import numpy as np

from genlib import UserError, check_choice, check_whole
from genlib.data import checkpoints
from genlib.data.images import to_unit
from genlib.models.blocks import check_labels, draw_latents, named_options
from genlib.models.samplers import (
    PREDICTIONS,
    SAMPLERS,
    SCHEDULES,
    check_path,
    estimate_image,
    target_weights,
    walk,
)
from genlib.models.unet import build_unet
from genlib.training.backend import compiled, keras
from genlib.training.optimizers import update_average

ops = keras.ops
DENSITIES = ("uniform", "logit_normal", "mixed")
BATCH = 250  # images that are drawn at once, at most


@keras.saving.register_keras_serializable(package="genlib")
class DiffusionModel(keras.Model):
    """A network that trains under plain ``fit`` to take the noise out of images.

    network: [image, time] or [image, time, label] → output, such as ``build_unet`` makes.
    schedule: "linear", "cosine" or "flow"; prediction: what it outputs, "noise", "image", "v" or
    "flow". timesteps: T, the number of noise levels. density: how often each is trained on,
    "uniform", "logit_normal" (the middle more often, Esser et al. 2024), or "mixed", a tenth of
    which is uniform, so that T, where samples start, is met. ema: decay of the averaged weights,
    which ``generate`` uses. label_dropout: share of the labels that training hides, to learn with
    and without (Ho & Salimans 2022). num_classes: of the label input, 0 if there is none. seed: of
    all noise. ``fit`` takes images in [-1, 1], and labels (batch,) where the network does. Raises
    ``UserError`` for options that are out of range, and ``fit`` for images and labels that are.
    """

    def __init__(
        self,
        network,
        schedule="flow",
        prediction="flow",
        timesteps=1000,
        density="mixed",
        ema=0.999,
        label_dropout=0.1,
        num_classes=0,
        seed=0,
    ):
        super().__init__()
        check_choice("density", density, DENSITIES)
        check_whole("timesteps", timesteps, 2)
        if not (0 <= ema < 1 and 0 <= label_dropout <= 1):
            raise UserError(
                f"ema={ema} and label_dropout={label_dropout} do not fit: ema goes from 0 to below "
                "1, label_dropout from 0 to 1."
            )
        self.network = network
        self.average = keras.models.clone_model(network)
        self.average.set_weights(network.get_weights())
        self.average.trainable = False
        self.timesteps, self.density = timesteps, density
        self.ema, self.label_dropout, self.seed = ema, label_dropout, seed
        self.image_shape = tuple(network.input_shape[0][1:])
        self.num_classes = num_classes
        self.table = self.add_weight((timesteps + 1, 4), trainable=False, name="table")
        self.set_path(schedule, prediction)
        self.updates = self.add_weight((), initializer="zeros", trainable=False, name="updates")
        self.noise = keras.random.SeedGenerator(seed)
        self.tracker = keras.metrics.Mean("loss")
        self.estimators = {}  # compiled, by (average, guided)
        self.built = True

    def set_path(self, schedule, prediction):
        """Choose the schedule and the network's target. A trained network must be trained again.

        All that differs are four numbers a timestep: α and σ, and a and b of the target a ε + b x₀.
        Raises ``UserError`` for what does not exist or go together.
        """
        check_choice("schedule", schedule, SCHEDULES)
        check_choice("prediction", prediction, PREDICTIONS)
        check_path(schedule, prediction)
        alpha, sigma = SCHEDULES[schedule](self.timesteps)
        self.schedule, self.prediction = schedule, prediction
        self.rates = np.stack([alpha, sigma, *target_weights(prediction, alpha, sigma)], axis=1)
        self.table.assign(self.rates)

    @property
    def metrics(self):
        return [self.tracker]

    def call(self, images, training=False):
        """Set the exercise: draw t and ε for each image. Returns x_t, t/T and the target."""
        batch = ops.shape(images)[0]
        # One draw in each of ``batch`` equal parts of [0, 1): less variance (Kingma et al. 2021).
        u = ops.arange(batch, dtype="float32") + keras.random.uniform((batch,), seed=self.noise)
        u = u / ops.cast(batch, "float32")
        if self.density != "uniform":
            even, u = u, ops.sigmoid(float(np.sqrt(2)) * ops.erfinv(2.0 * u - 1.0))
        if self.density == "mixed":
            u = ops.where(keras.random.uniform((batch,), seed=self.noise) < 0.1, even, u)
        t = ops.minimum(ops.cast(u * self.timesteps, "int32") + 1, self.timesteps)
        rates = ops.reshape(ops.take(self.table, t, axis=0), (-1, 1, 1, 1, 4))
        alpha, sigma, a, b = ops.unstack(rates, 4, axis=-1)
        epsilon = keras.random.normal(ops.shape(images), seed=self.noise)
        time = ops.cast(t, "float32") / self.timesteps
        return alpha * images + sigma * epsilon, time, a * epsilon + b * images

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        noisy, time, target = y_pred
        inputs = [noisy, time]
        if self.num_classes:
            if y is None:
                raise UserError(f"this model has {self.num_classes} classes: fit(images, labels).")
            hidden = keras.random.uniform(ops.shape(time), seed=self.noise) < self.label_dropout
            inputs.append(ops.where(hidden, self.num_classes, ops.cast(y, "int32")))
        loss = ops.mean(ops.square(self.network(inputs, training=training) - target))
        if training:
            self.updates.assign_add(1.0)
            update_average(self.average, self.network, self.updates, self.ema)
        self.tracker.update_state(loss)
        return loss

    def fit(self, x=None, y=None, **kwargs):
        if isinstance(x, np.ndarray):
            if x.dtype.kind != "f" or not (x.min() >= -1 and x.max() <= 1):
                raise UserError(
                    f"the images are {x.dtype} from {x.min()} to {x.max()}; a diffusion model "
                    "takes floats in [-1, 1] without NaN, as data.to_model gives."
                )
            self._labels(y, len(x))
        return super().fit(x, y, **kwargs)

    def estimator(self, average=True, guided=False):
        """The compiled function (x, labels, α, σ, a, b, t/T, guidance_scale) → x₀ in [-1, 1].

        guided: combine predictions with and without the label (Ho & Salimans 2022, eq. 6, whose w
        is our guidance_scale minus one).
        """
        if (average, guided) not in self.estimators:
            network = self.average if average else self.network

            def predict(x, time, labels):
                times = ops.full(ops.shape(x)[:1], 1.0) * time
                inputs = [x, times, labels] if self.num_classes else [x, times]
                return network(inputs, training=False)

            def estimate(x, labels, alpha, sigma, a, b, time, scale):
                if guided:
                    both = ops.concatenate([labels, ops.full_like(labels, self.num_classes)])
                    told, untold = ops.split(predict(ops.concatenate([x, x]), time, both), 2)
                    output = untold + scale * (told - untold)
                else:
                    output = predict(x, time, labels)
                x0 = estimate_image(x, output, alpha, sigma, a, b)
                return ops.clip(x0, -1.0, 1.0)

            numbers = [((), "float32")] * 6
            images = ((None, *self.image_shape), "float32")
            signature = [images, ((None,), "int32"), *numbers]
            self.estimators[average, guided] = compiled(estimate, network.variables, signature)
        return self.estimators[average, guided]

    @named_options
    def trajectory(
        self,
        latents,
        labels=None,
        *,
        steps=20,
        sampler="dpm",
        eta=0.0,
        guidance_scale=1.0,
        seed=0,
        average=True,
        project=None,
        jumps=1,
    ):
        """Yield (x, estimate of x₀), tensors in [-1, 1] or about, after each step of sampling.

        latents: noise (n, *image_shape), x at t = T. project: what corrects each estimate of x₀,
        tensor → tensor. The rest, and the errors: see ``generate``.
        """
        check_whole("jumps", jumps, 1)
        self._check(steps, sampler, eta, guidance_scale, labels)
        labels = self._labels(labels, len(latents))
        if labels is None or guidance_scale == 0:
            labels = np.full(len(latents), self.num_classes, "int32")
        estimate = self.estimator(average, guided=guidance_scale not in (0, 1))
        times = np.linspace(self.timesteps, 0, steps + 1).round().astype(int)
        # Python's numbers take the dtype of the tensors they meet.
        rates = self.rates[times].tolist()

        def denoise(x, i):
            x0 = estimate(x, labels, *rates[i], times[i] / self.timesteps, guidance_scale)
            return x0 if project is None else project(x0)

        noise = keras.random.SeedGenerator(seed)
        x = ops.convert_to_tensor(latents, "float32") * rates[0][1]

        def draw():
            return keras.random.normal(x.shape, seed=noise)

        levels = [(alpha, sigma) for alpha, sigma, *_ in rates]
        yield from walk(denoise, x, levels, sampler, draw, eta, jumps)

    @named_options
    def generate(
        self,
        n=None,
        *,
        steps=20,
        sampler="dpm",
        eta=0.0,
        guidance_scale=1.0,
        labels=None,
        seed=0,
        latents=None,
        average=True,
        project=None,
        jumps=1,
    ):
        """Draw images: NumPy (n, height, width, channels) in [0, 1].

        steps: evaluations of the network, 1 to ``timesteps``. sampler: "ddpm", "ddim" or "dpm",
        the last two with ``eta`` from 0 to 1, the share of fresh noise. labels: an integer, or n of
        them, or None for "not told"; guidance_scale: 0 ignores them, 1 heeds them as training did,
        more exaggerates. latents, of the images' shape, fix the noise at the start; average: use
        the averaged weights. project: slice of rows → what corrects their estimates of x₀, tensor →
        tensor; jumps: times that each step is walked, so that all comes to agree (Lugmayr et al.
        2022). The same seed gives the same images. Raises ``UserError`` for what is out of range.
        """
        latents = draw_latents(n, self.image_shape, seed, latents, labels)
        n, images = len(latents), []
        labels = self._labels(labels, n)
        controls = {"steps": steps, "sampler": sampler, "eta": eta, "jumps": jumps}
        controls |= {"guidance_scale": guidance_scale, "average": average}
        bounds = np.linspace(0, n, -(-n // BATCH) + 1).round().astype(int)
        for i, rows in enumerate(map(slice, bounds, bounds[1:])):
            controls["project"] = project and project(rows)
            controls["seed"] = int(np.random.default_rng([seed, i]).integers(2**31))
            told = None if labels is None else labels[rows]
            for x, _ in self.trajectory(latents[rows], told, **controls):
                last = x
            images.append(to_unit(last))
        return np.concatenate(images)

    def _labels(self, labels, n):
        if labels is None:
            return None
        if not self.num_classes:
            raise UserError("labels need a model that was trained with them; this one was not.")
        return check_labels(labels, n, self.num_classes)

    def _check(self, steps, sampler, eta, guidance_scale, labels):
        check_whole("steps", steps, 1, self.timesteps)
        check_choice("sampler", sampler, SAMPLERS)
        if not 0 <= eta <= 1 or (eta and sampler == "ddpm"):
            raise UserError(
                f"eta={eta} with sampler={sampler!r} is not possible; eta goes from 0 to 1 and "
                "belongs to sampler='ddim' and sampler='dpm'."
            )
        if not np.isfinite(guidance_scale):
            raise UserError(f"guidance_scale={guidance_scale} is not possible; give a number.")
        if guidance_scale not in (0, 1) and labels is None:
            hint = "give labels" if self.num_classes else "train a model with num_classes first"
            raise UserError(f"guidance_scale={guidance_scale} guides towards labels: {hint}.")

    def get_config(self):
        names = ("schedule", "prediction", "timesteps", "density", "ema", "label_dropout")
        config = {name: getattr(self, name) for name in (*names, "num_classes", "seed")}
        return config | {"network": keras.saving.serialize_keras_object(self.network)}

    @classmethod
    def from_config(cls, config):
        return cls(keras.saving.deserialize_keras_object(config.pop("network")), **config)


def build_diffusion(image_shape=(28, 28, 1), num_classes=0, seed=0, network=None, **options):
    """A ``DiffusionModel`` around ``build_unet``, its first weights a function of ``seed``.

    network: parameters of ``build_unet`` (width, levels, patch, attention); options: of
    ``DiffusionModel`` (schedule, prediction, timesteps, density, ema, label_dropout).
    """
    keras.utils.set_random_seed(seed)
    unet = build_unet(image_shape, num_classes=num_classes, **network or {})
    return DiffusionModel(unet, num_classes=num_classes, seed=seed, **options)


def load_diffusion(name="diffusion_mnist", image_shape=None):
    """Return a shipped ``DiffusionModel``, ready to generate, or raise ``UserError`` if its file is
    not intact or if it does not draw ``image_shape``."""
    unet = checkpoints.load(name, build_unet, image_shape)
    num_classes = checkpoints.manifest()[name]["parameters"]["num_classes"]
    return DiffusionModel(unet, num_classes=num_classes)
