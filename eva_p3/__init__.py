"""Deep analysis and training."""
