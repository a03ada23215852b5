"""What Diptych never does is a 404 that says so in one sentence."""

from tests.runner.gateway.live import Gateway

ASKED = {
    "/v1/moderations": "texts are not judged here",
    "/v1/files": "uploaded files are not kept here; pictures are sent within a request",
    "/v1/fine_tuning/jobs": "models are not trained here",
    "/v1/audio/speech": "sound is neither heard nor made here",
    "/v1/audio/transcriptions": "sound is neither heard nor made here",
}


def test_what_is_never_done_says_so() -> None:
    with Gateway({}) as gateway:
        for path, why in ASKED.items():
            refused = gateway.http.post(path, json={"model": "toy"})
            assert refused.status_code == 404
            assert refused.json()["error"]["message"] == f"{path} does not exist: {why}"
        other = gateway.http.post("/v1/filess").json()["error"]["message"]
        assert "the nearest is" in other
