"""A text model spread over several devices: the first process, the others, how they start and end."""
