"""A module as one ONNX file: exported, bared of all but the computation, and quantised to int8."""

from __future__ import annotations

import logging
import re
import tempfile
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import onnx
import torch

from limbeck.trees import translations as trees_of
from limbeck.types import Array

OPSET = 20
# Convolutions are not here: ConvInteger took 4 to 7 times as long as the fp32 Conv.
DYNAMIC = ("MatMul", "Gemm", "Gather", "Attention", "LSTM")
STATIC = ("MatMul", "Gemm", "Conv", "Gather")


def to_onnx(
    module: torch.nn.Module,
    example: Mapping[str, Array],
    *,
    free: Collection[tuple[str, int]] = (),
    translations: Mapping[Callable[..., Any], Callable[..., Any]] | None = None,
    opset: int = OPSET,
) -> bytes:
    """A single-file ONNX model with its weights inside. Equal weights make equal bytes.

    Args:
        module: in eval mode on the CPU; takes tensors by name and returns tensors by name.
        example: its tensors, at least 2 rows, and at least 2 along every free axis.
        free: (tensor, axis) of whatever may change besides the first axis, the row.
        translations: ATen operator -> onnxscript function, where the exporter's own is wrong or missing.
        opset: of ONNX.

    Raises:
        ValueError: it fixes the length of an axis that should be free, or does what ONNX cannot.
    """
    tensors = {name: torch.from_numpy(value) for name, value in example.items()}
    dynamic = torch.export.Dim.DYNAMIC
    shapes = {
        name: {axis: dynamic for axis in range(value.ndim) if axis == 0 or (name, axis) in free}
        for name, value in tensors.items()
    }
    with torch.no_grad(), _quiet():
        names = list(module(**tensors))
        for operator in (torch.ops.aten.gru.input, torch.ops.aten.lstm.input):
            # The exporter swaps what these do, not what was cached of them: a second export would fix the length.
            operator._dispatch_cache.clear()
        try:
            exported = torch.onnx.export(
                module,
                kwargs=tensors,
                dynamic_shapes=shapes,
                output_names=names,
                opset_version=opset,
                external_data=False,
                verbose=False,
                custom_translation_table={**trees_of(module), **(translations or {})},
            )
        except torch.onnx.OnnxExporterError as failed:
            raise ValueError(str(failed.__cause__ or failed)) from failed
    assert exported is not None  # only without dynamo
    model = exported.model_proto
    _name_axes(model)
    return _bare(model)


def dynamic_int8(model: bytes) -> bytes:
    """Weights in int8, per channel; activations measured afresh in every call."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with tempfile.TemporaryDirectory() as folder, _quiet():
        half = Path(folder) / "int8.onnx"
        quantize_dynamic(
            _folded(model),
            half,
            op_types_to_quantize=list(DYNAMIC),
            per_channel=True,
            weight_type=QuantType.QInt8,
        )
        return _bare(onnx.load(half))


def static_int8(model: bytes, calibration: Collection[Mapping[str, Array]]) -> bytes:
    """Weights in int8, per channel; activations in ranges met while calibrating.

    Args:
        model: fp32.
        calibration: batches of tensors, of training rows only.
    """
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.left = iter(calibration)

        def get_next(self) -> dict[str, Array] | None:
            return next(({**batch} for batch in self.left), None)

    with tempfile.TemporaryDirectory() as folder, _quiet():
        whole, half = Path(folder) / "fp32.onnx", Path(folder) / "int8.onnx"
        onnx.save(_folded(model), whole)
        quantize_static(
            whole,
            half,
            Reader(),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(STATIC),
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        return _bare(onnx.load(half))


def has_int8_form(model: bytes) -> bool:
    """Whether int8 could make any of its operators smaller; of trees it cannot."""
    return any(node.op_type in {*DYNAMIC, *STATIC} for node in onnx.load_from_string(model).graph.node)


def slots(model: bytes) -> tuple[list[tuple[str, str, tuple[int, ...]]], ...]:
    """Name, NumPy dtype and shape (-1 where free) of a file's inputs, and of its outputs."""
    graph = onnx.load_from_string(model).graph
    return _slots(graph.input), _slots(graph.output)


def _slots(values: Collection[Any]) -> list[tuple[str, str, tuple[int, ...]]]:
    said = []
    for value in values:
        held = value.type.tensor_type
        shape = tuple(-1 if axis.dim_param else int(axis.dim_value) for axis in held.shape.dim)
        said.append((str(value.name), str(onnx.helper.tensor_dtype_to_np_dtype(held.elem_type)), shape))
    return said


def _folded(model: bytes) -> Any:
    """Constants computed once. Where an embedding table is also the output layer, its transpose
    becomes a weight of its own: left as it is, int8 unpacks the table in every call (3.4 times as long
    at 20,000 items, against half as long when folded), for a quarter of the fp32 bytes more.
    """
    import onnx_ir
    from onnxruntime.quantization.quant_utils import add_pre_process_metadata
    from onnxscript import optimizer

    graph = onnx_ir.from_proto(onnx.load_from_string(model))
    no_limit = 1 << 40
    optimizer.fold_constants(graph, onnx_shape_inference=False, input_size_limit=no_limit, output_size_limit=no_limit)
    optimizer.remove_unused_nodes(graph)
    folded = onnx_ir.to_proto(graph)
    _unshare(folded.graph)
    # quantize_dynamic fails on the intermediate shapes that the exporter writes.
    del folded.graph.value_info[:]
    add_pre_process_metadata(folded)  # or it advises to do what was just done
    return folded


def _unshare(graph: Any) -> None:
    """Give every product a weight of its own. The quantiser transposes a Gemm's weight in place, under
    whoever else reads it, and quantises a weight once, per channel or not, for all its readers.
    """
    readers: dict[str, list[str]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node.op_type)
    weights = {weight.name: weight for weight in graph.initializer}
    for number, node in enumerate(graph.node):
        name = node.input[1] if node.op_type in ("Gemm", "MatMul", "Conv") else ""
        if name in weights and len(readers[name]) > 1 and set(readers[name]) != {"MatMul"}:
            readers[name].remove(node.op_type)  # so that the last reader keeps the first copy
            node.input[1] = f"{name}_{number}"
            own = graph.initializer.add()
            own.CopyFrom(weights[name])
            own.name = node.input[1]


def _name_axes(model: Any) -> None:
    """Name free axes for people. The exporter calls them s23, and a fixed one "12" where it found out late."""
    names: dict[str, str] = {}
    values = [*model.graph.input, *model.graph.output]
    for value in values:
        for place, axis in enumerate(value.type.tensor_type.shape.dim):
            if re.fullmatch(r"s\d+", axis.dim_param):
                names.setdefault(axis.dim_param, "batch" if place == 0 else f"{value.name}_{place}")
    for value in values:
        for axis in value.type.tensor_type.shape.dim:
            if axis.dim_param.isdigit():
                axis.dim_value = int(axis.dim_param)
            elif axis.dim_param:
                axis.dim_param = re.sub(r"\bs\d+\b", lambda found: names.get(found[0], found[0]), axis.dim_param)


def _bare(model: Any) -> bytes:
    """The bytes of a checked model without stack traces, which name folders of this machine."""
    model.producer_name, model.producer_version, model.doc_string = "limbeck", version("limbeck"), ""
    del model.metadata_props[:]
    _bare_graph(model.graph)
    for function in model.functions:
        _bare_nodes(function)
    onnx.checker.check_model(model, full_check=True)
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def _bare_graph(graph: Any) -> None:
    graph.name = "limbeck"
    del graph.value_info[:]
    for held in (*graph.input, *graph.output, *graph.initializer):
        held.doc_string = ""
        del held.metadata_props[:]
    _bare_nodes(graph)


def _bare_nodes(holder: Any) -> None:
    holder.doc_string = ""
    del holder.metadata_props[:]
    for node in holder.node:
        node.doc_string = ""
        del node.metadata_props[:]
        for attribute in node.attribute:
            attribute.doc_string = ""
            for graph in (attribute.g, *attribute.graphs) if attribute.type in (5, 10) else ():
                _bare_graph(graph)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's warnings, of torchvision missing (on purpose) and of its own deprecations."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx._internal.exporter._registration", "onnxscript")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
