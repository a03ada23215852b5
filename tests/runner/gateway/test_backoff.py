"""When a runner that keeps dying may be started again."""

from runner.gateway.backoff import FIRST_PAUSE, LONGEST_PAUSE, CrashBackoff


def test_two_deaths_within_a_minute_are_forgiven() -> None:
    holdoff = CrashBackoff()
    holdoff.died("once", 0)
    holdoff.died("twice", 30)
    assert holdoff.remaining(30) == 0


def test_the_third_within_a_minute_holds_it_off_for_a_while() -> None:
    holdoff = CrashBackoff()
    for second in (0, 20, 40):
        holdoff.died("no luck", second)
    assert holdoff.remaining(40) == FIRST_PAUSE
    assert holdoff.remaining(40 + FIRST_PAUSE) == 0
    assert holdoff.reason == "no luck"


def test_three_deaths_over_a_longer_time_do_not() -> None:
    holdoff = CrashBackoff()
    for second in (0, 40, 80, 120):
        holdoff.died("no luck", second)
    assert holdoff.remaining(120) == 0


def test_each_further_death_doubles_the_pause_up_to_five_minutes() -> None:
    holdoff, now, pauses = CrashBackoff(), 0.0, []
    for _ in range(12):
        holdoff.died("no luck", now)
        pauses.append(holdoff.remaining(now))
        now += pauses[-1] + 1
    assert pauses[:6] == [0, 0, 5, 10, 20, 40]
    assert pauses[-1] == LONGEST_PAUSE


def test_a_minute_of_life_after_a_pause_clears_it() -> None:
    holdoff = CrashBackoff()
    for second in (0, 1, 2):
        holdoff.died("no luck", second)
    holdoff.died("again", 2 + FIRST_PAUSE + 61)
    assert holdoff.remaining(2 + FIRST_PAUSE + 61) == 0
