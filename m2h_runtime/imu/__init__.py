"""IMU samples between frames: buffer, clock offset, preintegration."""
