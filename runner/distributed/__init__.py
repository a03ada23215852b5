"""A text model split over several devices, one process each."""
