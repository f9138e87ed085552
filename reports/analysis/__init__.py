"""Statistics over results: growth, ratios, limits, significance of a change."""
