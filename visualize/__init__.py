"""Pictures of a score and of its runs: reads `ensemble`, never the reverse. Nothing is drawn yet."""
