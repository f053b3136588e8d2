"""What proposes candidates: the grid and Optuna's samplers."""
