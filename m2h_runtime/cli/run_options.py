"""The options of `m2h-run`; nothing heavy is imported for them."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING

from m2h_runtime.cli.arguments import OneLineParser, camera_size, count, not_negative
from m2h_runtime.errors import InputError
from m2h_runtime.shipped import DEMO_ENGINE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from m2h_runtime.sources.opening import Kind, SourceSpec

SOURCES: tuple[Kind, ...] = (
    "camera", "csi", "gstreamer", "realsense", "oak", "video", "images", "euroc", "bag", "topic", "simulate",
)  # fmt: skip
RECORDED = ("video", "images", "euroc", "bag", "simulate")
APPLIES = {
    "camera_size": ("camera", "csi", "realsense", "oak", "simulate"),
    "camera_fps": ("camera", "csi", "realsense", "oak", "simulate"),
    "camera_format": ("camera",),
    "realtime": RECORDED,
    "loop": RECORDED,
    "imu_topic": ("bag", "topic"),
    "odometry": ("bag", "topic"),
    "camera_info_topic": ("bag", "topic"),
    "image_topic": ("bag",),
}
"""Which sources each option goes with; with another one it would be ignored, so it is refused."""
WITH_ROS = ("profile", "namespace", "no_clock")


def build_parser() -> argparse.ArgumentParser:
    """The options."""
    parser = OneLineParser(
        prog="m2h-run",
        description="Depth, semantics, normals and edges of a camera, a recording, a topic or a simulation.",
        epilog="A live source's newest frame wins and drops are counted; of recordings every frame is processed. "
        "What follows --ros-args goes to ROS (remappings, parameters).",
    )
    _add_sources(parser)
    _add_source_options(parser)
    _add_engine(parser)
    _add_motion(parser)
    _add_outputs(parser)
    _add_ros(parser)
    return parser


def _add_sources(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("source (one of these)")
    source = group.add_mutually_exclusive_group(required=True)
    source.add_argument("--camera", metavar="DEV", help="V4L2 device or its index: /dev/video0 or 0")
    source.add_argument("--csi", metavar="N", nargs="?", const="0", help="Jetson CSI camera (default: 0)")
    source.add_argument("--gstreamer", metavar="PIPELINE", help="GStreamer pipeline, without its appsink")
    source.add_argument(
        "--realsense", metavar="SERIAL", nargs="?", const="", help="RealSense (default: the first one)"
    )
    source.add_argument("--oak", metavar="ID", nargs="?", const="", help="OAK (default: the first one)")
    source.add_argument("--video", metavar="FILE|URL", help="video file, or rtsp:// or http:// stream")
    source.add_argument("--images", metavar="GLOB", help="image files, quoted: 'photos/*.jpg'")
    source.add_argument("--euroc", metavar="DIR", help="EuRoC/ASL folder, with its IMU")
    source.add_argument("--bag", metavar="PATH", help="ROS 1 bag, ROS 2 bag folder or .mcap; needs no ROS")
    source.add_argument(
        "--topic", metavar="NAME", help="ROS 2 image topic, raw or .../compressed, with its camera_info"
    )
    source.add_argument(
        "--simulate",
        metavar="NAME",
        nargs="?",
        const="apartment",
        help="walk through a simulated apartment: its seed and style, as in 9001-drone (default: apartment)",
    )


def _add_source_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("source options")
    group.add_argument(
        "--camera-size",
        metavar="WxH",
        type=camera_size,
        help="size to ask the camera for, e.g. 1280x720, or of the simulated one",
    )
    group.add_argument(
        "--camera-fps", metavar="N", type=count, help="rate to ask the camera for, or of the simulated one"
    )
    group.add_argument("--camera-format", metavar="FOURCC", help="V4L2 pixel format, e.g. MJPG or YUYV")
    group.add_argument("--image-topic", metavar="NAME", help="the bag's image topic, if it has several")
    group.add_argument(
        "--camera-info-topic", metavar="NAME", help="camera_info, or none (default: beside the images)"
    )
    group.add_argument("--imu-topic", metavar="NAME", help="IMU, or none (default: a bag's only one)")
    group.add_argument(
        "--odometry",
        metavar="NAME",
        help="nav_msgs/Odometry topic: the camera's poses, for cross-view engines",
    )
    group.add_argument(
        "--realtime",
        action=argparse.BooleanOptionalAction,
        help="play a recording at its own pace, like a camera (default: only with --ros and --web)",
    )
    group.add_argument("--loop", action="store_true", help="start a recording again at its end, for ever")
    group.add_argument(
        "--calibration", metavar="FILE", help="Kalibr camchain or ROS camera_info yaml of the camera"
    )
    group.add_argument(
        "--rectify",
        action=argparse.BooleanOptionalAction,
        help="undistort the images (default: if there is a --calibration)",
    )


def _add_engine(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("engine")
    group.add_argument(
        "--engine", metavar="FOLDER", type=Path, help=f"engine folder (default: the shipped {DEMO_ENGINE})"
    )
    group.add_argument("--backend", metavar="B", default="auto", help="auto (default) or a backend's name")
    group.add_argument(
        "--threads", metavar="N", type=count, help="CPU threads of the engine (default: all cores)"
    )
    group.add_argument(
        "--allow-unverified", action="store_true", help="also open an engine without a passing verdict"
    )
    group.add_argument(
        "--fit",
        choices=("stretch", "letterbox", "crop"),
        help="how images are brought to the engine's size (default: as the engine was made for)",
    )
    group.add_argument(
        "--max-age",
        metavar="S",
        type=not_negative,
        help="drop live frames that are older, seconds; 0: never (default: 1)",
    )
    group.add_argument("--frames", metavar="N", type=count, help="stop after N perceptions")


def _add_motion(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("over time")
    group.add_argument(
        "--align",
        action="store_true",
        help="average depth and labels with the frames before, warped by poses or gyroscope: less flicker",
    )
    group.add_argument(
        "--mask-depth-edges",
        action="store_true",
        help="with --align: no depth on depth edges, for who builds maps",
    )
    group.add_argument(
        "--visual-odometry",
        action="store_true",
        help="poses from the images and the engine's depth, where the source has none; with --ros published, too",
    )


def _add_outputs(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("output")
    group.add_argument(
        "--record",
        metavar="FILE",
        type=Path,
        help="FILE.mp4: annotated video; FILE.mcap: inputs and outputs as ROS 2 messages",
    )
    group.add_argument("--sheet", metavar="FILE.png", type=Path, help="contact sheet of a handful of frames")
    group.add_argument(
        "--web",
        metavar="[HOST:]PORT",
        help="live page for a browser, for this machine only unless HOST, as in 0.0.0.0:8080, opens it to others",
    )
    group.add_argument(
        "--rerun",
        metavar="FILE.rrd|[HOST:]PORT",
        help="record for Rerun, or serve Rerun viewers (default host: 127.0.0.1)",
    )
    group.add_argument(
        "--report", metavar="FILE.json", type=Path, help="figures of the run, as in the final table"
    )


def _add_ros(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("ROS 2")
    group.add_argument("--ros", action="store_true", help="publish as ROS 2 topics")
    group.add_argument(
        "--profile",
        metavar="P",
        help="default, hydra, mono_hydra_itc, mono_hydra_scannet, or a file.yaml: topics, encodings, sizes",
    )
    group.add_argument("--namespace", metavar="NS", help="the node's namespace")
    group.add_argument(
        "--no-clock", action="store_true", help="send no /clock with a recording that keeps its stamps"
    )


def source_name(args: argparse.Namespace) -> Kind:
    """The source option that was given."""
    return next(name for name in SOURCES if getattr(args, name) is not None)


def is_stream(args: argparse.Namespace) -> bool:
    """--video names a live stream, not a file."""
    return args.video is not None and "://" in args.video and not args.video.startswith("file://")


def source_spec(args: argparse.Namespace) -> SourceSpec:
    """What the options name."""
    from m2h_runtime.sources.opening import WALK_FPS, WALK_S, SourceSpec

    kind: Kind = "stream" if is_stream(args) else source_name(args)
    frames_s = math.ceil((args.frames or 0) / (args.camera_fps or WALK_FPS))
    return SourceSpec(
        kind,
        getattr(args, source_name(args)),
        size=args.camera_size,
        fps=args.camera_fps,
        pixel_format=args.camera_format,
        image_topic=args.image_topic,
        camera_info_topic=_topic(args.camera_info_topic),
        imu_topic=_topic(args.imu_topic),
        odometry_topic=_topic(args.odometry),
        realtime=_paced(args),
        loop=args.loop,
        duration_s=WALK_S if args.loop else max(WALK_S, frames_s),
    )


def _topic(name: str | None) -> str | None:
    return "" if name == "none" else name


def check_options(args: argparse.Namespace, ros_args: Sequence[str]) -> None:
    """Refuse options that would be ignored.

    Raises:
        InputError: names the option and what it goes with.
    """
    source = source_name(args)
    for name, applies in APPLIES.items():
        if getattr(args, name) not in (None, False) and source not in applies:
            raise InputError(f"{_option(name)} goes with {_listed(applies)} only, not with --{source}")
    if args.max_age is not None and not _is_live(args):
        raise InputError(
            "--max-age goes with live sources, and with recordings that are played by --realtime, --ros or --web"
        )
    if is_stream(args) and (args.loop or args.realtime is not None):
        raise InputError(f"{args.video}: is a live stream; --loop and --realtime go with recordings")
    if args.mask_depth_edges and not args.align:
        raise InputError("--mask-depth-edges goes with --align")
    if not args.ros:
        for name in WITH_ROS:
            if getattr(args, name) and not (name == "profile" and _records_messages(args)):
                also = " or --record FILE.mcap" if name == "profile" else ""
                raise InputError(f"{_option(name)} goes with --ros{also}")
    if ros_args and not args.ros and args.topic is None:
        raise InputError("--ros-args goes with --ros or --topic")


def _is_live(args: argparse.Namespace) -> bool:
    return source_name(args) not in RECORDED or is_stream(args) or _paced(args)


def _paced(args: argparse.Namespace) -> bool:
    """Robots and people who watch expect a recording at its own pace; whoever makes a video wants every frame."""
    return bool(args.ros or args.web if args.realtime is None else args.realtime)


def _records_messages(args: argparse.Namespace) -> bool:
    return args.record is not None and args.record.suffix == ".mcap"


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _listed(names: Sequence[str]) -> str:
    options = [f"--{name}" for name in names]
    return options[0] if len(options) == 1 else f"{', '.join(options[:-1])} and {options[-1]}"
