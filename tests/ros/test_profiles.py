from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from m2h_runtime.calibration.fit import Fit
from m2h_runtime.errors import InputError
from m2h_runtime.label_space import generic_label_space, load_label_map, load_label_space
from m2h_runtime.ros import profiles
from m2h_runtime.ros.messages import TYPES
from m2h_runtime.ros.profiles import ENCODINGS, load_profile, parse_profile, profile_names

DEFAULT = (Path(profiles.__file__).parent / "profiles" / "default.yaml").read_text(encoding="utf-8")


def test_four_profiles_ship_and_each_can_be_loaded() -> None:
    assert profile_names() == ["default", "hydra", "mono_hydra_itc", "mono_hydra_scannet"]
    for name in profile_names():
        assert load_profile(name).name == name


def test_every_output_has_a_type_and_the_default_profile_has_every_output() -> None:
    assert set(TYPES) == set(ENCODINGS) == set(load_profile().outputs)


@pytest.mark.parametrize(
    ("name", "size", "labels", "imu"),
    [
        ("mono_hydra_itc", (480, 848), "nyud20", "/camera/imu"),
        ("mono_hydra_scannet", (968, 1296), "scannet20", "/imu/aligned"),
    ],
)
def test_mono_hydra_profiles_are_what_its_launch_files_remap_to(
    name: str, size: tuple[int, int], labels: str, imu: str
) -> None:
    profile = load_profile(name)
    assert {key: tuple(output) for key, output in profile.outputs.items()} == {
        "depth": ("/camera/depth_cam/image_raw", "32FC1"),
        "labels": ("/camera/seg_cam/labels_argmax", "mono8"),
        "colors": ("/camera/seg_cam/image_raw", "rgb8"),
        "rgb": ("/mono_hydra_perception/synced/image_raw", "rgb8"),
        "camera_info": ("/mono_hydra_perception/synced/camera_info", ""),
    }
    assert (profile.size, profile.label_space, profile.imu_topic) == (size, labels, imu)
    assert profile.image_topic == "/camera/color/image_raw"
    assert profile.camera_info_topic == "/camera/color/camera_info"


def test_hydra_profile_has_the_topics_of_a_hydra_node_with_an_input_named_camera() -> None:
    topics = {name: output.topic for name, output in load_profile("hydra").outputs.items()}
    base = "/hydra/input/camera"
    assert topics["rgb"] == f"{base}/rgb/image_raw"
    assert topics["camera_info"] == f"{base}/rgb/camera_info"
    assert topics["depth"] == f"{base}/depth_registered/image_rect"
    assert topics["labels"] == f"{base}/semantic/image_raw"


def test_a_profile_can_be_a_file_and_sizes_can_follow_camera_or_engine(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(DEFAULT.replace("size: camera", "size: engine"))
    mine = load_profile(path)
    assert mine.name == "mine"
    assert load_profile(str(path)) == mine
    assert mine.size_for(Fit("stretch", (480, 640), (192, 256))) == (192, 256)
    assert mine.size_for(Fit("letterbox", (480, 848), (256, 256))) == (145, 256)  # without the bars
    assert mine.size_for(Fit("crop", (480, 848), (224, 224))) == (
        224,
        396,
    )  # with what the engine does not see
    assert load_profile().size_for(Fit("stretch", (480, 640), (192, 256))) == (480, 640)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("size: camera", "sizes: camera"), "no setting 'sizes'; the nearest is 'size'"),
        (("  depth:", "  deptth:"), "outputs: no setting 'deptth'; the nearest is 'depth'"),
        (
            ("encoding: mono8", "encodng: mono8"),
            "outputs: labels: no setting 'encodng'; the nearest is 'encoding'",
        ),
        (
            ("encoding: 32FC1", "encoding: 64FC1"),
            "outputs: depth: encoding '64FC1' is not possible.*32FC1 or 16UC1",
        ),
        (("size: camera", "size: [640]"), r"size \[640\] is not camera, engine or \[height, width\]"),
        (("size: camera", "size: [0, 5]"), "size"),
        (("[0.0, .inf]", "[3, 1]"), r"depth_range_m \[3, 1\]"),
        (("label_space: null", "label_space: nyu20"), "no label space 'nyu20'"),
        (("imu_topic: camera/imu\n", ""), "lacks imu_topic"),
        (("imu_topic: camera/imu", "imu_topic: 3"), "imu_topic needs a name"),
        (("~/edges/image", "~/depth/image"), "edges and depth have the same topic"),
        (("~/imu}", "/camera/imu}"), "imu and imu_topic have the same topic"),
        (("size: camera", "size: [camera"), "is not YAML"),
    ],
)
def test_what_is_wrong_in_a_profile_is_one_line_that_says_so(change: tuple[str, str], message: str) -> None:
    assert change[0] in DEFAULT
    with pytest.raises(InputError, match=message) as caught:
        parse_profile(DEFAULT.replace(*change, 1), "mine.yaml", "mine")
    assert str(caught.value).startswith("mine.yaml")
    assert "\n" not in str(caught.value)


def test_unknown_names_and_missing_files_are_errors_never_the_default(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no profile 'hidra'; there are default, hydra"):
        load_profile("hidra")
    with pytest.raises(InputError, match="cannot be read"):
        load_profile(tmp_path / "gone.yaml")
    (tmp_path / "list.yaml").write_text("- 1")
    with pytest.raises(InputError, match="needs settings"):
        load_profile(tmp_path / "list.yaml")


def test_labels_reach_the_label_space_of_the_profile() -> None:
    nyu = load_label_space("nyudv2_40")
    itc = load_profile("mono_hydra_itc").labels(nyu)
    assert itc.space.name == "nyud20"
    assert np.array_equal(itc.lut[:41], load_label_map("nyudv2_40", "nyud20")[:41])
    same = load_profile("mono_hydra_itc").labels(load_label_space("nyud20"))
    assert np.array_equal(same.lut[:21], np.arange(21))
    own = load_profile().labels(generic_label_space(7))
    assert np.array_equal(own.lut[:7], np.arange(7))


def test_no_published_label_leaves_its_space() -> None:
    for source in ("nyudv2_40", "nyud20", "scannet20"):
        labels = load_profile("mono_hydra_scannet").labels(load_label_space(source))
        assert labels.lut.max() < 20
    signed = load_profile("hydra").labels(load_label_space("nyud20"))
    assert set(signed.lut[21:]) == {255} == {signed.unknown}  # -1 on the wire


def test_an_engine_whose_classes_the_profile_cannot_have_is_refused() -> None:
    with pytest.raises(InputError, match="no table from label space 'classes_7' to 'nyud20'"):
        load_profile("hydra").labels(generic_label_space(7))


def test_scannet_classes_keep_their_nyu_class() -> None:
    table = load_label_map("nyudv2_40", "scannet20")
    benchmark = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 14, 16, 24, 28, 33, 34, 36, 39]
    assert list(table[benchmark]) == list(range(20))
    nyu, scannet = load_label_space("nyudv2_40").classes, load_label_space("scannet20").classes
    same = {name: scannet[table[label]] for label, name in enumerate(nyu) if name in scannet}
    assert all(source == target for source, target in same.items())
    assert len(same) == 19  # "other furniture" is spelled in one word there


def test_the_two_ways_to_scannet_agree_where_nyud20_keeps_classes_apart() -> None:
    direct = load_label_map("nyudv2_40", "scannet20")[:41]
    around = load_label_map("nyud20", "scannet20")[load_label_map("nyudv2_40", "nyud20")[:41]]
    names = load_label_space("nyudv2_40").classes
    differ = {names[label] for label in np.flatnonzero(direct != around)}
    lost = {"desk", "curtain", "refrigerator", "shower curtain", "toilet", "sink", "bathtub", "box", "bag"}
    assert differ == lost
