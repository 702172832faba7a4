"""Laws, fits, intervals and windows, from arrays and records alone: numpy and scipy only."""
