"""The node's parameters: what is accepted, what is refused, and what a profile becomes."""

from __future__ import annotations

from pathlib import Path

import pytest

from m2h_runtime.errors import InputError
from m2h_runtime.ros.graph_settings import GraphSettings
from m2h_runtime.ros.parameters import WITHOUT_EFFECT, read_settings
from m2h_runtime.ros.profiles import load_profile
from m2h_runtime.ros.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
MONO_HYDRA = """
image_topic camera_info_topic image_depth_topic label_ids_topic image_semantic_topic input_queue_size output_queue_size
warn_output_lag_s max_output_lag_s publish_synced_inputs synced_rgb_topic synced_camera_info_topic
publish_color_semantic skip_frequency publish_label_ids
model_path feed_width feed_height arch_name model_variant num_classes min_depth max_depth depth_output_scale
color20_mat_filepath objects40_csv_mapping log_every_n_frames
dataset device half config_path checkpoint_path label_mapping_yaml color_map_path depth_scale image_height image_width
publish_edges publish_normals
input_width input_height input_color_order model_expects_rgb scale_input_to_01 normalize_mean normalize_std
output_original_size semantic_encoding depth_output_name semantic_output_name depth_min depth_max inference_provider
intra_op_num_threads inter_op_num_threads
"""
"""Parameters of Mono-Hydra's three inference nodes."""
TEMPORAL_FILTER = """
fixed_frame camera_frame camera_info_topic depth_topic label_topic output_depth_topic output_label_topic
output_color_topic output_mask_topic publish_color_semantic color_map_path history_size max_history_age_s
history_use_fused min_depth max_depth depth_gate_abs depth_gate_rel depth_fusion_mode depth_alpha label_min_votes
dynamic_labels ignore_labels sync_queue sync_slop tf_timeout tf_buffer_size pose_quality_mode pose_quality_odom_topic
pose_quality_min pose_quality_skip_threshold pose_quality_alpha pose_quality_lin_accel_ref pose_quality_ang_accel_ref
input_depth_scale
"""
"""Of its temporal filter, which may stay."""
SCANNET_LAUNCH = {
    "dataset": "scannet",
    "device": "auto",
    "half": True,
    "skip_frequency": 3,
    "depth_scale": 1.427,
    "image_height": 0,
    "image_topic": "/camera/color/image_raw",
    "image_depth_topic": "/camera/depth_cam/image_raw",
    "label_ids_topic": "/camera/seg_cam/labels_argmax",
    "input_queue_size": 256,
    "publish_synced_inputs": False,
    "publish_label_ids": True,
    "publish_color_semantic": False,
    "checkpoint_path": "",
}
"""What Mono-Hydra's launch file says to its node."""


def refusal(given: dict[str, object]) -> str:
    with pytest.raises(InputError) as caught:
        read_settings(given)
    return str(caught.value)


@pytest.mark.parametrize("name", MONO_HYDRA.split())
def test_each_parameter_of_mono_hydra_is_known_and_documented(name: str) -> None:
    value = Settings.__dataclass_fields__[name].default if name in Settings.__dataclass_fields__ else 1
    settings, notes = read_settings({name: value})
    assert settings == Settings() or name.startswith(("depth", "max_output"))
    assert len(notes) == (name not in Settings.__dataclass_fields__)
    assert f"`{name}`" in (ROOT / "docs" / "ros2.md").read_text()


@pytest.mark.parametrize("name", TEMPORAL_FILTER.split())
def test_each_parameter_of_the_temporal_filter_is_in_the_table(name: str) -> None:
    assert (
        f"`{name}`" in (ROOT / "docs" / "ros2.md").read_text().partition("temporal_pose_warp_filter_node")[2]
    )


@pytest.mark.parametrize("kind", [Settings, GraphSettings])
def test_every_parameter_is_in_the_tables(kind: type) -> None:
    text = (ROOT / "docs" / "ros2.md").read_text()
    assert [name for name in kind.__dataclass_fields__ if f"`{name}`" not in text] == []


def test_depth_edges_are_masked_by_the_alignment_only() -> None:
    assert "parameter mask_depth_edges: goes with align" in refusal({"mask_depth_edges": True})
    assert read_settings({"mask_depth_edges": True, "align": True})[0].align


def test_what_mono_hydras_launch_file_says_is_understood_and_the_rest_announced() -> None:
    settings, notes = read_settings(SCANNET_LAUNCH)
    assert (settings.depth_scale, settings.publish_synced_inputs) == (1.427, False)
    announced = {note.split(":")[0].removeprefix("parameter ") for note in notes}
    assert announced == {
        "dataset",
        "device",
        "half",
        "skip_frequency",
        "image_height",
        "input_queue_size",
        "checkpoint_path",
    }
    assert announced <= set(WITHOUT_EFFECT)


def test_an_unknown_parameter_names_its_neighbour() -> None:
    assert "'engin'; the nearest is 'engine'" in refusal({"engin": "x"})
    assert "the nearest is 'skip_frequency'" in refusal({"skip_freqency": 3})


def test_values_of_another_type_are_refused_but_a_whole_number_is_a_real_one() -> None:
    assert read_settings({"max_age_s": 2})[0].max_age_s == 2.0
    assert "depth_scale: needs a number, got 'much'" in refusal({"depth_scale": "much"})
    assert "threads: needs a whole number, got 2.5" in refusal({"threads": 2.5})
    assert "threads: needs a whole number, got True" in refusal({"threads": True})
    assert "autostart: needs true or false, got 1" in refusal({"autostart": 1})
    assert "source: needs a text in quotes, got 0" in refusal({"source": 0})


@pytest.mark.parametrize("value", [0.0, 1e9, float("nan"), float("inf")])
def test_a_value_out_of_range_is_refused(value: float) -> None:
    assert "is not between 0.01 and 100" in refusal({"depth_scale": value})


def test_a_choice_that_there_is_not_is_refused() -> None:
    assert "'squeeze' is not possible; it can be empty, stretch, letterbox, crop" in refusal(
        {"fit": "squeeze"}
    )


def test_two_names_of_one_parameter_must_agree() -> None:
    assert read_settings({"max_age_s": 2.0, "max_output_lag_s": 2.0})[0].max_age_s == 2.0
    assert "are the same and have two values" in refusal({"max_age_s": 2.0, "max_output_lag_s": 1.0})


def test_a_depth_range_that_is_none_is_refused() -> None:
    assert "max_depth: 1 is not above min_depth 2" in refusal({"min_depth": 2.0, "max_depth": 1.0})
    with pytest.raises(InputError, match="30 m to 20 m"):
        Settings(min_depth=30.0).tailored(load_profile("mono_hydra_itc"))


def test_a_profile_gets_the_named_topics_and_loses_what_is_switched_off() -> None:
    settings = Settings(
        image_depth_topic="/d", synced_rgb_topic="/rgb", publish_color_semantic=False, publish_normals=False
    )
    profile = settings.tailored(load_profile("default"))
    assert profile.outputs["depth"].topic == "/d"
    assert profile.outputs["depth"].encoding == "32FC1"
    assert profile.outputs["rgb"].topic == "/rgb"
    assert {"labels", "edges", "camera_info"} <= set(profile.outputs)
    assert not {"colors", "normals", "normals_picture"} & set(profile.outputs)


def test_without_parameters_a_profile_stays_as_it_is() -> None:
    assert Settings().tailored(load_profile("mono_hydra_itc")) == load_profile("mono_hydra_itc")
