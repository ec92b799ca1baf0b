"""The landmark network: hourglass map, equilibrium, heatmaps, losses, recurrence on video."""
