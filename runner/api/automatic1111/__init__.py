"""The API of AUTOMATIC1111's web UI for pictures, which many programs know."""
