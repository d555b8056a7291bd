"""What people read and steer a rollout by, at a terminal."""
