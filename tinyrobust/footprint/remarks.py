"""What else there is to know about a file before it is flashed, in sentences."""

from collections.abc import Iterator

from tinyrobust.deploy import micro, probing
from tinyrobust.deploy.artefact import Artefact, Tensor
from tinyrobust.deploy.subgraphs import called


def described(tensor: Tensor) -> str:
    """Type, shape and grid of an input or output, such as `int8[1, 96, 96, 1], scale 0.0039216, zero point -128`."""
    text = f"{tensor.dtype}[{', '.join(map(str, tensor.shape))}]"
    if tensor.scales.size == 1:
        return f"{text}, scale {float(tensor.scales[0]):.5g}, zero point {int(tensor.zero_points[0])}"
    return text


def remarks(artefact: Artefact) -> list[str]:
    """State, other subgraphs, custom operators, ends, and what tools have added."""
    return list(_remarks(artefact))


def _remarks(artefact: Artefact) -> Iterator[str]:
    chip = micro.compiled_for(artefact)
    if chip:
        yield f"Compiled for {chip}. Its layers cannot be seen: give the file from before that compiler."
    if artefact.stateful:
        yield "It keeps state from one inference to the next: an answer depends on the inputs before."
    used = {number for graph in artefact.graphs for operator in graph.operators for number in called(operator)}
    alone = sum(number not in used for number in range(1, len(artefact.graphs)))
    if used:
        yield (
            f"{len(used)} more subgraphs are called by CALL_ONCE, IF or WHILE."
            if len(used) > 1
            else ("One more subgraph is called by CALL_ONCE, IF or WHILE.")
        )
    if alone:
        functions = "another function" if alone == 1 else f"{alone} other functions"
        yield f"It holds {functions}: only the first is sized layer by layer; TensorFlow Lite Micro has room for all of them."
    codes = {operator.name for graph in artefact.graphs for operator in graph.operators if operator.name.startswith("CUSTOM:")}
    if codes:
        yield f"Custom operators, of which work and scratch buffers are not known: {', '.join(sorted(codes))[:300]}."
    if artefact.plan is not None:
        yield "A compiler has placed tensors in the arena (OfflineMemoryAllocation): the plan follows it."
    inner = [(index, probing.inner(artefact, index, "QUANTIZE")) for index in artefact.inputs]
    inner += [(index, probing.inner(artefact, index, "DEQUANTIZE")) for index in artefact.outputs]
    if any(index != tensor.index for index, tensor in inner):
        yield "Its ends are float32 around integers: QUANTIZE and DEQUANTIZE run on the microcontroller."
