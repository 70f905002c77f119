"""`nnxp export`: a model in the format of other runtimes."""

from __future__ import annotations

import os
from typing import Annotated

from nnxp import files, onnx
from nnxp.cli import options, outputs
from nnxp.cli.options import OUTPUT
from nnxp.cli.outputs import console
from nnxp.errors import InputError
from nnxp.network import MLP


def export(
    model: options.Model,
    file: Annotated[str, options.argument("File for the ONNX model.")],
    opset: Annotated[
        int, options.whole(OUTPUT, "Version of ONNX's operators; an old runtime needs an old one.")
    ] = onnx.OPSET,
    overwrite: Annotated[
        bool,
        options.flag(OUTPUT, "Replace a file that 'nnxp export' did not write.", "--overwrite"),
    ] = False,
) -> None:
    """Write a model as ONNX, with its preprocessing: it predicts as 'nnxp predict' does.

    Any runtime of ONNX computes it, without nnxp and without Python.
    """
    written = outputs.check({"FILE": file}, [model])
    there = os.path.isfile(file) and os.path.getsize(file) > 0
    if there and not overwrite and not onnx.is_ours(file):
        raise InputError(
            f"{file}: 'nnxp export' did not write it, and it would be lost: name another file, or "
            "add --overwrite"
        )
    exported = onnx.to_onnx(MLP.load(model, "numpy", "cpu"), opset=opset)
    content = exported.SerializeToString()
    path = written.write("FILE", lambda path: files.write(path, content), replace=overwrite)
    written.end()
    replaced = " in place of the file that was there" if there else ""
    console.print(f"wrote {path}{replaced}, opset {opset}, {len(content):,} bytes")
    for line in onnx.describe(exported):
        console.print(f"  {line}")
