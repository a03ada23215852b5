"""The hub for the page: models searched, examined and downloaded."""
