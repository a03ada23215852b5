"""Responses and conversations that clients may come back to, in a SQLite file of the user's state folder."""
