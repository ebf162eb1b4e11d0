"""Feedback and clean-up, on regions that react as HAMi-core does."""
