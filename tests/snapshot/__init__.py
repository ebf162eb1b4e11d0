"""The joins: containers, identity, allocations, and what is unattributed."""
