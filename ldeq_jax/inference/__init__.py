"""A trained model on pictures and videos."""
