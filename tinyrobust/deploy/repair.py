"""Small faults of old converters that TensorFlow Lite Micro overlooks and the fast interpreter refuses, mended in a copy."""

from ai_edge_litert import schema_py_generated as schema

from tinyrobust.deploy.artefact import Artefact

_DIMENSION = 16  # of the field `quantized_dimension` in the FlatBuffers table of a tensor's quantization


def mended(artefact: Artefact) -> bytes:
    """The bytes of a file as the fast interpreter takes them: one-dimensional tensors have their scales along their only axis.

    Old converters wrote the axis of the weights into the bias. Nothing that is computed depends on it.
    """
    content = bytearray(artefact.content)
    model = schema.Model.GetRootAs(artefact.content, 0)
    for number, graph in enumerate(artefact.graphs):
        table = model.Subgraphs(number)
        for tensor in graph.tensors:
            quantization = table.Tensors(tensor.index).Quantization() if tensor.per_channel and len(tensor.shape) == 1 else None
            if quantization is not None and quantization.QuantizedDimension():
                place = quantization._tab.Pos + quantization._tab.Offset(_DIMENSION)
                content[place : place + 4] = bytes(4)
    return bytes(content)
