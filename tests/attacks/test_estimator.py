import keras
import numpy as np
import pytest
import tensorflow as tf
from art.attacks.evasion import CarliniL2Method, DeepFool, FastGradientMethod, ProjectedGradientDescent, SquareAttack
from art.estimators.classification import TensorFlowV2Classifier

from tinyrobust.attacks.estimator import GraphClassifier, check_logits
from tinyrobust.errors import ModelFileError


@pytest.fixture(scope="module")
def estimator(digits_net) -> GraphClassifier:
    return GraphClassifier(lambda x: digits_net.model(x, training=False), (8, 8, 1), 10, batch_size=32)


@pytest.fixture(scope="module")
def batch(digits_net) -> tuple[np.ndarray, np.ndarray]:
    return digits_net.x[:50].astype(np.float32) / 255, digits_net.y[:50]


@pytest.fixture(scope="module")
def arts_own(digits_net) -> TensorFlowV2Classifier:
    loss = keras.losses.CategoricalCrossentropy(from_logits=True, reduction="sum")
    return TensorFlowV2Classifier(digits_net.model, 10, (8, 8, 1), loss_object=loss, clip_values=(0, 1))


def test_logits_are_the_models(estimator, batch, digits_net) -> None:
    np.testing.assert_allclose(estimator.predict(batch[0]), digits_net.model(batch[0]), rtol=1e-4, atol=1e-5)


def test_loss_gradient_is_that_of_the_tape_and_of_art(estimator, arts_own, batch, digits_net) -> None:
    x, y = batch
    with tf.GradientTape() as tape:
        inputs = tf.constant(x)
        tape.watch(inputs)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(y, digits_net.model(inputs))
    expected = tape.gradient(losses, inputs)
    np.testing.assert_allclose(estimator.loss_gradient(x, y), expected, atol=1e-5)
    np.testing.assert_allclose(estimator.loss_gradient(x, np.eye(10)[y]), expected, atol=1e-5)
    np.testing.assert_allclose(estimator.loss_gradient(x, y), arts_own.loss_gradient(x, np.eye(10)[y]), atol=1e-5)
    assert np.abs(expected).max() > 0.1


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("label", [None, 3, "each"])
def test_class_gradient_is_arts(label, estimator, arts_own, batch) -> None:
    x, y = batch
    label = y if label == "each" else label
    found = estimator.class_gradient(x, label)
    np.testing.assert_allclose(found, arts_own.class_gradient(x, label), atol=1e-5)
    assert found.shape == (50, 10 if label is None else 1, 8, 8, 1)


def test_tensors_give_tensors(estimator, batch) -> None:
    assert tf.is_tensor(estimator.loss_gradient(tf.constant(batch[0]), tf.constant(batch[1])))


def test_batches_of_any_size_are_traced_once(digits_net, batch) -> None:
    x, y = batch
    traced = []

    def network(images: tf.Tensor) -> tf.Tensor:
        traced.append(images.shape)
        return digits_net.model(images, training=False)

    estimator = GraphClassifier(network, (8, 8, 1), 10, batch_size=32)
    for size in (1, 7, 32, 50):
        estimator.predict(x[:size])
        estimator.loss_gradient(x[:size], y[:size])
        estimator.class_gradient(x[:size], y[:size])
    assert traced == [(None, 8, 8, 1)] * 3  # one graph for each of the three


@pytest.mark.parametrize(
    ("side", "count", "sizes"), [(8, 5000, [4096, 904]), (32, 300, [256, 44]), (40, 300, [256, 44])], ids=str
)
def test_small_images_go_in_larger_batches(side, count, sizes) -> None:
    seen = []

    def network(images: tf.Tensor) -> tf.Tensor:
        def noted(x: np.ndarray) -> np.ndarray:
            seen.append(len(x))
            return x[:, 0, :2, 0]

        return tf.ensure_shape(tf.numpy_function(noted, [images], tf.float32), (None, 2))

    GraphClassifier(network, (side, side, 1), 2).predict(np.zeros((count, side, side, 1), np.float32))
    assert seen == sizes


def test_no_samples_give_no_rows(estimator, batch) -> None:
    assert estimator.predict(batch[0][:0]).shape == (0, 10)


def test_queries_count_samples(estimator, batch) -> None:
    before = estimator.queries
    estimator.predict(batch[0])
    estimator.loss_gradient(batch[0][:3], batch[1][:3])
    assert estimator.queries - before == 53


_ATTACKS = {
    "fgsm": lambda estimator: FastGradientMethod(estimator, eps=0.3),
    "pgd": lambda estimator: ProjectedGradientDescent(estimator, eps=0.3, eps_step=0.05, max_iter=10, verbose=False),
    "square": lambda estimator: SquareAttack(estimator, eps=0.3, max_iter=100, verbose=False),
    "deepfool": lambda estimator: DeepFool(estimator, max_iter=20, batch_size=50, verbose=False),
    "carlini-l2": lambda estimator: CarliniL2Method(estimator, max_iter=3, batch_size=50, verbose=False),
}


@pytest.mark.parametrize("attack", _ATTACKS)
def test_arts_attacks_break_an_undefended_network(attack, estimator, batch) -> None:
    x, y = batch
    adversarial = _ATTACKS[attack](estimator).generate(x, np.eye(10, dtype=np.float32)[y])
    clean, attacked = ((estimator.predict(images).argmax(1) == y).mean() for images in (x, adversarial))
    assert clean > 0.9
    assert attacked < 0.4


def test_probabilities_are_refused() -> None:
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, activation="softmax")])
    with pytest.raises(ModelFileError, match="Expected a model that outputs logits"):
        check_logits(model)


def test_a_model_that_does_not_classify_is_refused() -> None:
    model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Conv2D(3, 3)])
    with pytest.raises(ModelFileError, match=r"logits \[n, classes\]. Received: shape"):
        check_logits(model)
