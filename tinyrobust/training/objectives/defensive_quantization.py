"""Weights that amplify nothing: each layer's deployed matrix is kept close to orthogonal."""

import keras
from keras import ops

from tinyrobust.gradients import Tensor
from tinyrobust.graphs.folding import deployed, foldable
from tinyrobust.quantizers.layers import weight_layers
from tinyrobust.training.objectives.base import Batch, Objective


class DefensiveQuantization(Objective):
    """Half the squared distance of every layer's weights from orthogonal ones (Lin et al. 2019, arXiv 1904.08444).

    forward: `1/2 sum_l |W_l^T W_l - I|_F^2`, where W_l are the quantized weights of layer l with batch norm folded
    (`folding.deployed`; the gradient goes straight through to the latent weights, and to the scales of the norms). The
    kernel of a convolution is the matrix [h w channels, filters]; that of a depthwise or grouped convolution is the
    block-diagonal matrix that it stands for, a block for every group. Where a matrix is wider than high, its rows are held
    orthogonal: `|W W^T - I|^2` differs from `|W^T W - I|^2` by a constant, width less height, and can be zero.

    The matrix of a convolution is not its operator: where windows overlap, orthogonal columns leave a spectral norm of up to
    the square root of the number of windows that see a pixel.
    """

    sees_clean = False

    def __call__(self, batch: Batch) -> Tensor:
        """See the class."""
        network = batch.network
        norms = {name: network.get_layer(norm) for name, norm in foldable(network).items()}
        kernels = ((layer, deployed(layer, norms.get(layer.name))[0]) for layer in weight_layers(network))
        return 0.5 * sum(distance_from_orthogonal(blocks(layer, kernel)) for layer, kernel in kernels)


def blocks(layer: keras.Layer, kernel: Tensor) -> Tensor:
    """The matrices [groups, rows, columns] along the diagonal of a kernel's matrix; one group but for grouped convolutions."""
    shape = tuple(kernel.shape)
    if isinstance(layer, keras.layers.DepthwiseConv2D):  # [h, w, channels, multiplier]
        return ops.transpose(ops.reshape(kernel, (-1, *shape[-2:])), (1, 0, 2))
    groups = getattr(layer, "groups", 1)
    return ops.transpose(ops.reshape(kernel, (-1, groups, shape[-1] // groups)), (1, 0, 2))


def distance_from_orthogonal(matrices: Tensor) -> Tensor:
    """`|W^T W - I|_F^2`, summed over matrices [groups, rows, columns]; with `W W^T` where there are fewer rows."""
    rows, columns = matrices.shape[-2:]
    turned = ops.transpose(matrices, (0, 2, 1))
    gram = ops.matmul(turned, matrices) if columns <= rows else ops.matmul(matrices, turned)
    return ops.sum(ops.square(gram - ops.eye(min(rows, columns), dtype=gram.dtype)))
