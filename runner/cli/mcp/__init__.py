"""A server of the Model Context Protocol: agents draw, edit and chat with the gateway's models."""
