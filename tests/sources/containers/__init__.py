"""The containers directory, and one container's directory."""
