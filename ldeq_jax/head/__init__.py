"""A face in three dimensions: the model, its fit to landmarks, and pictures that it moves."""
