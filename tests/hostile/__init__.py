"""The exporter against containers, clients and surroundings that mean it harm."""
