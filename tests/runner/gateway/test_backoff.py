"""When a runner that keeps crashing may be restarted."""

from runner.gateway.backoff import FIRST_PAUSE, LONGEST_PAUSE, CrashBackoff


def test_two_deaths_within_a_minute_are_forgiven() -> None:
    backoff = CrashBackoff()
    backoff.record_death("once", 0)
    backoff.record_death("twice", 30)
    assert backoff.remaining(30) == 0


def test_the_third_within_a_minute_holds_it_off_for_a_while() -> None:
    backoff = CrashBackoff()
    for second in (0, 20, 40):
        backoff.record_death("no luck", second)
    assert backoff.remaining(40) == FIRST_PAUSE
    assert backoff.remaining(40 + FIRST_PAUSE) == 0
    assert backoff.reason == "no luck"


def test_three_deaths_over_a_longer_time_do_not() -> None:
    backoff = CrashBackoff()
    for second in (0, 40, 80, 120):
        backoff.record_death("no luck", second)
    assert backoff.remaining(120) == 0


def test_each_further_death_doubles_the_pause_up_to_five_minutes() -> None:
    backoff, now, pauses = CrashBackoff(), 0.0, []
    for _ in range(12):
        backoff.record_death("no luck", now)
        pauses.append(backoff.remaining(now))
        now += pauses[-1] + 1
    assert pauses[:6] == [0, 0, 5, 10, 20, 40]
    assert pauses[-1] == LONGEST_PAUSE


def test_a_minute_of_life_after_a_pause_clears_it() -> None:
    backoff = CrashBackoff()
    for second in (0, 1, 2):
        backoff.record_death("no luck", second)
    backoff.record_death("again", 2 + FIRST_PAUSE + 61)
    assert backoff.remaining(2 + FIRST_PAUSE + 61) == 0


def test_the_longest_pause_may_be_shorter() -> None:
    backoff = CrashBackoff(longest=7)
    for second in range(9):
        backoff.record_death("it is off", second)
    assert backoff.remaining(8) == 7
