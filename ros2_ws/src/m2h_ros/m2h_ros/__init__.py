"""ROS 2 coat of m2h_runtime."""
