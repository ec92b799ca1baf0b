"""Results for readers: drawings, plots, tables, JSON records and overlay videos."""
