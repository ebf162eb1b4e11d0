"""What two exporters serve differently."""
