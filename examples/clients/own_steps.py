"""Models whose own `train_step` takes gradients by a tape: five patterns of Keras's examples.

Each is written as for Adam. The patterns are those of the examples on keras.io (variational
autoencoder, WGAN-GP, DCGAN, graph attention network, neural style transfer), each written anew and
small.
"""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

layers, ops = keras.layers, keras.ops


class VariationalAutoencoder(keras.Model):
    """Digits as 4 numbers with noise."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = keras.Sequential([layers.Dense(48, "tanh"), layers.Dense(8)])
        self.decoder = keras.Sequential([layers.Dense(48, "tanh"), layers.Dense(64, "sigmoid")])
        self.tracker = keras.metrics.Mean(name="loss")
        self.seeds = keras.random.SeedGenerator(1)

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """The one that is reset at each epoch."""
        return [self.tracker]

    def train_step(self, x: Any) -> dict[str, Any]:
        """Reconstruction and divergence."""
        with tf.GradientTape() as tape:
            mean, log_variance = ops.split(self.encoder(x), 2, axis=1)
            noise = keras.random.normal(ops.shape(mean), seed=self.seeds)
            decoded = self.decoder(mean + ops.exp(log_variance / 2) * noise)
            reconstruction = ops.mean(ops.sum((decoded - x) ** 2, axis=1))
            divergence = mean**2 + ops.exp(log_variance) - log_variance - 1
            loss = reconstruction + 0.05 * ops.mean(ops.sum(divergence, axis=1))
        gradients = tape.gradient(loss, self.trainable_weights)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_weights, strict=True))
        self.tracker.update_state(loss)
        return {"loss": self.tracker.result()}


class GraphAttention(keras.Model):
    """Classifies rows by attention to those that are near: a graph whose edges are given."""

    def __init__(self, edges: tf.Tensor, features: tf.Tensor) -> None:
        super().__init__()
        self.edges, self.features = edges, features
        self.project, self.score = layers.Dense(24, "relu"), layers.Dense(1)
        self.out = layers.Dense(10)

    def call(self, nodes: tf.Tensor) -> tf.Tensor:
        """Logits of nodes."""
        hidden = self.project(self.features)
        sources, targets = self.edges[:, 0], self.edges[:, 1]
        pairs = tf.concat([tf.gather(hidden, sources), tf.gather(hidden, targets)], axis=1)
        weights = tf.exp(tf.clip_by_value(tf.nn.leaky_relu(self.score(pairs)), -2.0, 2.0))
        count = len(self.features)
        total = tf.math.unsorted_segment_sum(weights, targets, count)
        messages = weights * tf.gather(hidden, sources)
        gathered = tf.math.unsorted_segment_sum(messages, targets, count) / total
        return self.out(tf.gather(gathered + hidden, nodes))

    def train_step(self, data: Any) -> dict[str, Any]:
        """Cross-entropy of the nodes of a batch."""
        nodes, labels = data
        with tf.GradientTape() as tape:
            loss = self.compute_loss(y=labels, y_pred=self(nodes))
        gradients = tape.gradient(loss, self.trainable_weights)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_weights, strict=True))
        return {"objective": loss}


class _Adversarial(keras.Model):
    """A generator and what tells its digits from those of people."""

    def __init__(self, generator: keras.Model, discriminator: keras.Model) -> None:
        super().__init__()
        self.generator, self.discriminator = generator, discriminator
        self.seeds = keras.random.SeedGenerator(1)

    def compile(self, optimizer: Any, other: Any) -> None:
        """Takes an optimizer for each network."""
        super().compile()
        self.generator_optimizer = keras.optimizers.get(optimizer)
        self.discriminator_optimizer = keras.optimizers.get(other)

    def noise(self, like: tf.Tensor) -> tf.Tensor:
        """From which the generator makes as many digits."""
        return keras.random.normal((ops.shape(like)[0], 8), seed=self.seeds)

    def losses_of(self, real: tf.Tensor, made: tf.Tensor) -> dict[str, tf.Tensor]:
        """The losses of both networks, by the names in the logs."""
        raise NotImplementedError

    def train_step(self, real: tf.Tensor) -> dict[str, Any]:
        """First the discriminator, then the generator."""
        logs = {}
        noise = self.noise(real)
        for name, network, optimizer in (
            ("discriminator_loss", self.discriminator, self.discriminator_optimizer),
            ("objective", self.generator, self.generator_optimizer),
        ):
            with tf.GradientTape() as tape:
                made = self.generator(noise)
                loss = self.losses_of(real, made)[name]
            gradients = tape.gradient(loss, network.trainable_weights)
            optimizer.apply_gradients(zip(gradients, network.trainable_weights, strict=True))
            logs[name] = loss
        return logs


class WassersteinWithPenalty(_Adversarial):
    """WGAN-GP: the slope of the critic is a part of its loss."""

    def losses_of(self, real: tf.Tensor, made: tf.Tensor) -> dict[str, tf.Tensor]:
        """The losses of both networks."""
        share = keras.random.uniform((ops.shape(real)[0], 1), seed=self.seeds)
        between = share * real + (1 - share) * made
        with tf.GradientTape() as tape:
            tape.watch(between)
            scores = self.discriminator(between)
        slopes = ops.sqrt(ops.sum(tape.gradient(scores, between) ** 2, axis=1) + 1e-12)
        fake, true = ops.mean(self.discriminator(made)), ops.mean(self.discriminator(real))
        penalty = 10 * ops.mean((slopes - 1) ** 2)
        return {"discriminator_loss": fake - true + penalty, "objective": -fake}


class DeepConvolutional(_Adversarial):
    """DCGAN: cross-entropies."""

    def losses_of(self, real: tf.Tensor, made: tf.Tensor) -> dict[str, tf.Tensor]:
        """The losses of both networks."""
        true, fake = self.discriminator(real), self.discriminator(made)
        return {
            "discriminator_loss": ops.mean(ops.softplus(-true)) + ops.mean(ops.softplus(fake)),
            "objective": ops.mean(ops.softplus(-fake)),
        }


class StyleTransfer(keras.Model):
    """An image is the weight: features like one image's, with correlations like another's."""

    def __init__(self, content: tf.Tensor, style: tf.Tensor) -> None:
        super().__init__()
        self.network = keras.Sequential(
            [layers.Conv2D(8, 3, activation="tanh"), layers.Conv2D(8, 3, activation="tanh")]
        )
        self.wanted = self.network(content), self.correlations(self.network(style))
        self.network.trainable = False
        self.image = self.add_weight(shape=content.shape, initializer="zeros", name="image")
        self.built = True

    def correlations(self, features: tf.Tensor) -> tf.Tensor:
        """Means of products of features, over the image."""
        return tf.einsum("bhwc,bhwd->bcd", features, features) / features.shape[1] ** 2

    def train_step(self, data: Any) -> dict[str, Any]:
        """One step on the image."""
        with tf.GradientTape() as tape:
            features = self.network(self.image)
            loss = ops.mean((features - self.wanted[0]) ** 2)
            loss += ops.mean((self.correlations(features) - self.wanted[1]) ** 2)
        gradients = tape.gradient(loss, [self.image])
        self.optimizer.apply_gradients([(gradients[0], self.image)])
        return {"objective": loss}
