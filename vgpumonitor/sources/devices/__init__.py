"""The node's GPUs, as their drivers tell of them: one package a vendor."""
