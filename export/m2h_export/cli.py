"""`m2h-export`: weights in, a verified engine folder out."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from m2h_runtime.cli.arguments import OneLineParser, network_size, positive, signs
from m2h_runtime.errors import M2HError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence


def build_parser() -> argparse.ArgumentParser:
    """The command line; nothing heavy is imported to print its help."""
    parser = OneLineParser(
        prog="m2h-export",
        description="Make an engine folder (graph or plan, manifest, golden frame) from network weights, and prove "
        "it equal to PyTorch fp32 on real photographs. An engine that is not equal is not written.",
        epilog="example: m2h-export --model m2h --checkpoint m2h_indoor.pt --size 224x224 --precision fp16 "
        "--target tensorrt --out engines/m2h",
    )
    parser.add_argument(
        "--model",
        required=True,
        help="m2h, m2h-small, m2h-nano, or one of those on a larger backbone; with +cvm behind it, or cvm-vitl and "
        "others of that kind, a network that also looks at earlier frames",
    )
    weights = parser.add_mutually_exclusive_group(required=True)
    weights.add_argument(
        "--checkpoint", type=Path, metavar="FILE", help="weights: a .pt state dict or .safetensors"
    )
    weights.add_argument(
        "--random-weights",
        action="store_true",
        help="no checkpoint: weights from --seed; the manifest says so",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the random weights (default 0)")
    parser.add_argument(
        "--size", required=True, type=network_size, metavar="HxW", help="input height × width, pixels"
    )
    parser.add_argument(
        "--precision",
        choices=("fp32", "fp16", "int8"),
        default="fp32",
        help="default fp32; fp16 for GPUs; int8 (calibrated) for large networks on CPUs",
    )
    parser.add_argument(
        "--target",
        choices=("onnx", "openvino", "tensorrt", "tensorrt-rtx"),
        default="onnx",
        help="default onnx",
    )
    parser.add_argument(
        "--compute-capability", metavar="X.Y", help="of the GPU that a tensorrt-rtx plan is for, e.g. 8.6"
    )
    parser.add_argument("--out", required=True, type=Path, metavar="FOLDER", help="the engine folder to make")
    parser.add_argument(
        "--classes", type=int, metavar="K", help="of the semantic head (default: the checkpoint's, 41)"
    )
    parser.add_argument(
        "--label-space", metavar="NAME", help="nyudv2_40, nyud20 or scannet20 (default: by class count)"
    )
    parser.add_argument(
        "--max-depth", type=float, metavar="METRES", help="clip the depth there (default: no limit)"
    )
    parser.add_argument(
        "--normals-sign",
        type=signs,
        default=(1, 1, 1),
        metavar="X,Y,Z",
        help="factors of 1 or -1 that bring the "
        "network's normals into the camera optical frame, e.g. --normals-sign=1,-1,-1",
    )
    parser.add_argument(
        "--images", metavar="GLOB", help="pictures for the parity check (default: eight photographs)"
    )
    parser.add_argument(
        "--calibration-images",
        metavar="GLOB",
        help="pictures to take the ranges of --precision int8 from (default: those of the parity check, mirrored)",
    )
    parser.add_argument(
        "--half-weights", action="store_true", help="store an fp32 graph's weights as fp16: half the file"
    )
    parser.add_argument(
        "--focal-px",
        metavar="F",
        type=positive,
        help="fx, in pixels of --size, of the camera that the weights learned metres with; depth is corrected by it",
    )
    parser.add_argument(
        "--mixing", choices=("wmca", "mha", "none"), help="cross-task attention (the paper's ablations)"
    )
    parser.add_argument("--no-ggfm", action="store_true", help="without gated merging (the paper's ablation)")
    parser.add_argument(
        "--views",
        type=int,
        choices=(2, 3),
        help="of a cross-view network: a frame and one earlier frame (default), or two of them",
    )
    parser.add_argument("--workspace-mb", type=int, metavar="MB", help="memory limit of the TensorRT builder")
    parser.add_argument("--timing-cache", type=Path, metavar="FILE", help="where TensorRT keeps its timings")
    return parser


def run(args: argparse.Namespace) -> int:
    """Export as the options say."""
    from rich.console import Console

    try:
        from m2h_export.build import ExportSpec, export_engine, peak_memory_mb
        from m2h_export.steps import Steps
    except ModuleNotFoundError as error:
        raise M2HError(f"the package {error.name} is missing: pip install 'm2h-runtime[export]'") from error
    plain = not sys.stdout.isatty()
    steps = Steps(Console(width=130 if plain else None))
    manifest = export_engine(
        ExportSpec(
            model=args.model,
            checkpoint=args.checkpoint,
            seed=args.seed,
            size=args.size,
            precision=args.precision,
            target=args.target,
            out=args.out,
            compute_capability=args.compute_capability,
            classes=args.classes,
            label_space=args.label_space,
            max_depth_m=args.max_depth,
            normals_sign=args.normals_sign,
            images=args.images,
            calibration=args.calibration_images,
            half_weights=args.half_weights,
            focal_px=args.focal_px,
            mixing=args.mixing,
            ggfm=False if args.no_ggfm else None,
            views=args.views,
            workspace_mb=args.workspace_mb,
            timing_cache=args.timing_cache,
        ),
        steps,
    )
    total = sum(facts.bytes for facts in manifest.files.values())
    steps.say(
        f"{args.out}: {manifest.parity.verdict}, {total / 1e6:.1f} MB (peak memory {peak_memory_mb():.0f} MB)"
        + (". RANDOM WEIGHTS: no perception, for tests of speed and parity" if args.random_weights else "")
    )
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point. 0: the engine is there; 2: a foreseen error, one line; 130: Ctrl-C, nothing left behind."""
    args = build_parser().parse_args(argv)
    try:
        return run(args)
    except M2HError as error:
        print(f"m2h-export: {error}", file=sys.stderr)  # noqa: T201
        return 2
    except KeyboardInterrupt:
        print("m2h-export: interrupted; nothing was written", file=sys.stderr)  # noqa: T201
        return 130


if __name__ == "__main__":
    sys.exit(main())
