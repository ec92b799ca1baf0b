"""The landmark network: hourglass map, equilibrium, heatmaps, losses, recurrence on video.

It takes crops and returns landmarks in crop coordinates.
"""
