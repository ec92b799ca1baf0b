"""Writes the models of the page, two programs of each that share one file of weights.

    python web/export_models.py web/build/models

`ldeq export --format=onnx` writes `first.onnx` and `next.onnx`, which hold the same weights. Here
the weights are taken out into `weights.bin`, once, and the detector may take pictures of any size
that is a multiple of 32.
"""

import argparse
import pathlib
import shutil
import sys

MODELS = ("faces-68-tiny", "faces-68")
LEAST = 1024  # bytes of what is taken out


def share_weights(folder: pathlib.Path) -> None:
    """Moves the weights of the two programs in a folder to weights.bin."""
    import onnx

    data, places = bytearray(), {}
    for name in ("first.onnx", "next.onnx"):
        model = onnx.load(folder / name)
        for tensor in model.graph.initializer:
            raw = tensor.raw_data
            if len(raw) < LEAST:
                continue
            if raw not in places:
                data += bytes(-len(data) % 16)
                places[raw] = len(data)
                data += raw
            onnx.external_data_helper.set_external_data(
                tensor, "weights.bin", offset=places[raw], length=len(raw)
            )
            tensor.ClearField("raw_data")
        (folder / name).write_bytes(model.SerializeToString())
    (folder / "weights.bin").write_bytes(data)


def free_size(file: pathlib.Path) -> None:
    """Lets the detector take pictures of any height and width."""
    import onnx

    model = onnx.load(file)
    sides = model.graph.input[0].type.tensor_type.shape.dim
    sides[2].dim_param, sides[3].dim_param = "height", "width"
    for value in [*model.graph.output, *model.graph.value_info]:
        value.type.tensor_type.ClearField("shape")
    file.write_bytes(model.SerializeToString())


def main(argv=None):
    """Writes the models."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("output", type=pathlib.Path)
    output = parser.parse_args(argv).output
    try:
        import onnx  # noqa: F401
    except ModuleNotFoundError:
        sys.exit("the models of the page need onnx: run make onnx")
    from ldeq_jax.interop.export import export_onnx

    shutil.rmtree(output, ignore_errors=True)
    for name in MODELS:
        export_onnx(name, output / name)
        share_weights(output / name)
        for file in ("face_detector.onnx", "face_detector_LICENSE"):
            (output / name / file).replace(output / file)
    free_size(output / "face_detector.onnx")


if __name__ == "__main__":
    main()
