"""Long runs: mixed requests, a third of them cancelled; many long prompts; memory that stops growing."""

import json
import random
import re
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest

from runner.bench.prompts import WORDS
from tests.runner.live import Live
from tests.toys import toy_text
from tests.waiting import PATIENCE

MB = 1024**2


def prompt(chance: random.Random, words: int) -> str:
    return " ".join(chance.choices(WORDS, k=words))


def options(chance: random.Random) -> dict[str, object]:
    """Every kind of request there is, so that all of them share batches."""
    chosen: dict[str, object] = {"num_predict": chance.randint(1, 30)}
    if chance.random() < 0.6:
        chosen |= {"temperature": chance.uniform(0, 1.5), "top_k": chance.choice([0, 5, 50]), "top_p": 0.9}
    if chance.random() < 0.3:
        chosen |= {"seed": chance.randrange(2**63)}
    if chance.random() < 0.3:
        chosen |= {"repeat_penalty": 1.2, "presence_penalty": 0.5, "stop": ["ba", "🫖"]}
    return chosen


class Client:
    """One request, as a client of some temper sends it."""

    def __init__(self, live: Live, number: int) -> None:
        self.live = live
        self.number = number
        self.chance = random.Random(number)

    def body(self) -> dict[str, object]:
        chance = self.chance
        body: dict[str, object] = {"options": options(chance), "stream": chance.random() < 0.6}
        if chance.random() < 0.2:
            body["messages"] = [{"role": "user", "content": prompt(chance, 5)}]
        else:
            body["prompt"] = prompt(chance, chance.choice([1, 10, 10, 80, 150]))
        if chance.random() < 0.2:
            body |= {"logprobs": True, "top_logprobs": 3}
        if chance.random() < 0.1:
            body["format"] = "json"
        return body

    def run(self) -> str:
        if self.number % 3:
            return self.stay()
        return self.leave() if self.number % 2 else self.cancel()

    def stay(self) -> str:
        response = self.live.http.post("/completion", json=self.body())
        assert response.status_code == 200, response.text
        last = json.loads(response.text.splitlines()[-1])
        assert last["done"] is True
        assert "error" not in last, last
        return "done"

    def leave(self) -> str:
        """Disconnect after some bytes, or before any."""
        body = self.body()
        with self.live.begin(str(body.pop("prompt", "x")), **{**body, "messages": None}) as connection:
            connection.settimeout(self.chance.uniform(0, 0.3))
            try:
                for _ in range(self.chance.randint(0, 5)):
                    connection.recv(200)
            except TimeoutError:
                return "left waiting"
        return "left"

    def cancel(self) -> str:
        name = f"soak-{self.number}"
        with ThreadPoolExecutor(1) as pool:
            headers = {"X-Request-Id": name}
            pending = pool.submit(self.live.http.post, "/completion", json=self.body(), headers=headers)
            while not pending.done():
                if self.live.http.post("/cancel", json={"id": name}).json()["cancelled"]:
                    break
            response = pending.result()
        last = json.loads(response.text.splitlines()[-1])
        return "cancelled" if last.get("error") else "done before it was cancelled"


def soak(live: Live, first: int, count: int) -> Counter[str]:
    with ThreadPoolExecutor(12) as pool:
        return Counter(pool.map(lambda number: Client(live, number).run(), range(first, first + count)))


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("family", ["qwen3", "gemma3", "qwen3_next"])
def test_after_three_hundred_requests_nothing_is_left_over(family: str) -> None:
    with Live(toy_text(family), "--cache-bytes", "4MB", "--context", "2048") as live:
        live.http = httpx2.Client(
            base_url=live.http.base_url, timeout=PATIENCE, limits=httpx2.Limits(max_connections=40)
        )
        seen = soak(live, 0, 100)
        live.wait_until_idle()
        settled, held = live.memory(), live.status()["Memory"]
        seen += soak(live, 100, 200)
        status = live.wait_until_idle()
        assert sum(seen.values()) == 300
        assert seen["done"] >= 200, seen
        assert seen["cancelled"] + seen["left"] + seen["left waiting"] > 50, seen
        assert status["queue"] == status["active"] == 0
        assert status["cache_bytes"] <= 4 * 10**6
        assert live.memory() < settled * 1.25 + 30 * MB, "memory went on growing"
        assert status["Memory"] < held * 1.5 + 30 * MB
        assert live.alive
        assert "Traceback" not in live.log


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_five_hundred_long_prompts_stay_under_the_bound() -> None:
    limit = 1_500_000
    with Live(toy_text("qwen3"), "--cache-bytes", str(limit)) as live:
        chance = random.Random(5)
        most = 0
        memory = []
        with ThreadPoolExecutor(4) as pool:
            for _ in range(25):
                bodies = [prompt(chance, chance.randint(75, 250)) for _ in range(20)]
                list(pool.map(lambda body: live.complete(body, num_predict=2), bodies))
                status = live.status()
                most = max(most, status["cache_bytes"])
                memory.append(live.memory())
        assert status["cache_limit"] == limit
        assert 0.5 * limit < most <= limit
        assert status["cache_entries"] > 0
        gauge = re.search(r"^diptych_cache_bytes (\S+)", live.http.get("/metrics").text, re.MULTILINE)
        assert gauge
        assert float(gauge[1]) == status["cache_bytes"]
        assert max(memory[-5:]) < max(memory[5:10]) * 1.15 + 10 * MB, "memory went on growing"
