"""The dashboards: their JSON, their queries, and how they look."""
