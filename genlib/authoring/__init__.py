"""Tools of those who write the course: shown = shipped, stored outputs, shipped checkpoints."""
