"""Drawn pictures with their recipes, kept by the gateway: a SQLite file and the pictures beside it, in the user's state folder."""
