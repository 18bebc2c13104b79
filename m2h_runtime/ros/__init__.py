"""ROS 2: messages as bytes (no ROS needed), profiles, and nodes (rclpy when used)."""
