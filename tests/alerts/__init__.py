"""The rules: promtool's tests of them, and the configurations of docs/scale.md."""
