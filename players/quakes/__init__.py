"""A week of the world's earthquakes: measured alike, sorted into main shocks and aftershocks, warned of if strong."""
