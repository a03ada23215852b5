"""Paths of OpenAI's API for what Diptych never does, and what to say to those who ask."""

NOT_OFFERED = {
    "/v1/audio": "sound is neither heard nor made here",
    "/v1/realtime": "sound is neither heard nor made here",
    "/v1/moderations": "texts are not judged here",
    "/v1/files": "uploaded files are not kept here; pictures are sent within a request",
    "/v1/uploads": "uploaded files are not kept here; pictures are sent within a request",
    "/v1/vector_stores": "files are not searched here; /v1/embeddings makes vectors",
    "/v1/fine_tuning": "models are not trained here",
    "/v1/batches": "there are no batches here; requests are served side by side",
    "/v1/assistants": "there are no assistants here; /v1/responses keeps conversations",
    "/v1/threads": "there are no assistants here; /v1/responses keeps conversations",
    "/v1/videos": "no films are made here",
}


def why_not_offered(path: str) -> str | None:
    """Of a path below one of these; None for any other."""
    return next((why for prefix, why in NOT_OFFERED.items() if f"{path}/".startswith(f"{prefix}/")), None)
