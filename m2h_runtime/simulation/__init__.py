"""Procedural apartments with exact ground truth: frames, poses, IMU, labels, and the true scene graph."""
