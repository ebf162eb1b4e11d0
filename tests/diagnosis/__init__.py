"""What is found to be wrong, and that nothing is found where nothing is."""
