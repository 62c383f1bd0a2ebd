"""The parts of the stages, each on its own."""
