"""Results for people: drawings, plots, tables, overlays."""
