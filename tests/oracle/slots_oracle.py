#!/usr/bin/env python3
"""A second opinion on slots, minute by minute, with Python's zoneinfo and nothing else.

Reads one JSON object a line on stdin and writes one a line on stdout; the first line out lists the
zones that this Python knows. Written from the rules in words, not from the Rust code: every rule is
asked of every minute by itself, so that no interval arithmetic can be wrong in the same way.

A case:   {"zone", "weekly": [[weekday 1..7, start, end], ...], "overrides": {date: [[start, end], ...]},
           "travel": [[first date, last date, zone], ...],
           "busy": [[start, end, own_before, own_after], ...], "from", "to", "now",
           "duration", "increment", "before", "after", "notice",
           "grid": "window" | "restart", "align", "offset",
           "horizon": null | ["rolling" | "window", days, business],
           "services": [service of each busy item: 0 is the one asked about, null no session, ...],
           "service_limits": [per day or null, per week or null], "practice_limits": the same}
Clock times are minutes of the local day (1440 is its end); instants are minutes since 1970 UTC.
The answer: {"slots": [minute, ...], "open": [[start, end], ...], "offsets": [seconds, ...]}, the
offsets every half hour from WEEKS_BACK weeks before "from" until DAYS_AHEAD days after "to", first
those of the zone, then those of each journey.

Journeys: a date is a day of the practice, whose clock is that of where the practitioner is then.
Today is the latest date that the clock of that date has reached. A minute belongs to the latest date
that has it among its hours, or else to today. A horizon lasts until its last date, and all before
it, have ended by their own clocks. Weeks begin when their Monday, or a later date, has begun.
"""

import json
import sys
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from zoneinfo import ZoneInfo, available_timezones

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
MINUTE = timedelta(minutes=1)
WEEKS_BACK = 3
DAYS_AHEAD = 2
DAY = 24 * 60
WEEK = 7 * DAY


def to_minute(day, clock, zone):
    """A local time as a minute of UTC. With fold=0 Python takes the first of two occurrences, and
    for a time in a gap the offset from before it, which is a move forward by the gap."""
    local = datetime(day.year, day.month, day.day) + timedelta(minutes=clock)
    return int((local.replace(tzinfo=zone, fold=0).astimezone(timezone.utc) - EPOCH) / MINUTE)


class Case:
    def __init__(self, case):
        self.__dict__.update(case)
        self.tz = ZoneInfo(self.zone)
        self.low = self.__dict__["from"] - WEEKS_BACK * WEEK
        self.high = self.to + DAYS_AHEAD * DAY
        self.local = lru_cache(maxsize=None)(self.local_of)
        self.zone_of = lru_cache(maxsize=None)(self.zone_of_date)
        self.today = lru_cache(maxsize=None)(self.today_at)
        self.owner = {}
        self.open = self.open_minutes()
        self.until = self.high
        self.free = bytearray(self.open)
        for start, end, own_before, own_after in self.busy:
            self.fill(self.free, start - self.after - own_before, end + self.before + own_after, 0)

    def local_of(self, minute, zone):
        return (EPOCH + minute * MINUTE).astimezone(zone)

    def zone_of_date(self, day):
        for first, last, name in self.travel:
            if first <= day.isoformat() <= last:
                return ZoneInfo(name)
        return self.tz

    def today_at(self, minute):
        there = self.local(minute, timezone.utc).date()
        near = [there + timedelta(days=days) for days in (-1, 0, 1)]
        return max(day for day in near if self.local(minute, self.zone_of(day)).date() >= day)

    def date_of(self, minute):
        return self.owner.get(minute) or self.today(minute)

    def begin(self, day):
        """When this date or a later one begins; only the next can overtake it."""
        days = (day, day + timedelta(days=1))
        return min(to_minute(day, 0, self.zone_of(day)) for day in days)

    def end(self, day):
        """When this date and all before it have ended."""
        days = (day, day - timedelta(days=1))
        return max(to_minute(day, DAY, self.zone_of(day)) for day in days)

    def open_minutes(self):
        minutes = bytearray(self.high - self.low)
        day = self.today(self.low) - timedelta(days=3)
        while day <= self.today(self.high) + timedelta(days=3):
            zone = self.zone_of(day)
            for start, end in self.hours_of(day):
                first, last = to_minute(day, start, zone), to_minute(day, end, zone)
                self.fill(minutes, first, last, 1)
                if self.travel:
                    for minute in range(first, last):
                        self.owner[minute] = day
            day += timedelta(days=1)
        return minutes

    def hours_of(self, day):
        zone = self.zone_of(day)
        noon = datetime(day.year, day.month, day.day, 12, tzinfo=zone)
        shown = noon.astimezone(timezone.utc).astimezone(zone).date()
        if shown != day:
            return []  # A date that the zone skipped.
        listed = self.overrides.get(day.isoformat())
        if listed is not None:
            return listed
        return [hours[1:] for hours in self.weekly if hours[0] == day.isoweekday()]

    def fill(self, minutes, first, last, value):
        first, last = max(first, self.low), min(last, self.high)
        if first < last:
            minutes[first - self.low : last - self.low] = bytes([value]) * (last - first)

    def all_set(self, minutes, start, length):
        at = start - self.low
        return 0 not in minutes[at : at + length]

    def run_start(self, minutes, minute):
        """The first minute of the unbroken run of set minutes that this minute is in."""
        return self.low + minutes.rfind(0, 0, minute - self.low) + 1

    def monday(self, minute):
        day = self.today(minute)
        return day - timedelta(days=day.weekday())

    def origin(self, minute):
        """Where the grid of this minute begins: its window, anew on Mondays for long ones, and on
        the restarting grid its free interval."""
        begin = self.run_start(self.open, minute)
        monday = self.monday(minute)
        if begin < self.begin(monday - timedelta(days=7)):
            begin = self.begin(monday)
        if self.grid == "window":
            return begin
        begin = max(begin, self.run_start(self.free, minute))
        # The offset is added after rounding, and hours are counted on the local clock.
        zone = self.zone_of(self.date_of(begin))
        while self.local(begin, zone).minute % self.align:
            begin += 1
        return begin + self.offset

    def is_start(self, minute):
        if not self.all_set(self.free, minute, self.duration):
            return False
        if minute <= self.now or minute < self.now + self.notice:
            return False
        if minute >= self.until:
            return False
        origin = self.origin(minute)
        if minute < origin or (minute - origin) % self.increment:
            return False
        return self.has_room(minute)

    def has_room(self, minute):
        """Whether one more session may begin in the day and in the week from Monday. A day ends when
        its next one first begins, whatever clocks and journeys do."""
        day = self.today(minute)
        while self.begin(day + timedelta(days=1)) <= minute:
            day += timedelta(days=1)
        monday = day - timedelta(days=day.weekday())
        for which, first, length in ((0, day, 1), (1, monday, 7)):
            begin = self.begin(first)
            end = self.begin(first + timedelta(days=length))
            for own_only, limits in ((True, self.service_limits), (False, self.practice_limits)):
                sessions = {
                    (service, start)
                    for service, (start, *_) in zip(self.services, self.busy)
                    if service is not None and begin <= start < end
                    and not (own_only and service != 0)
                }
                if limits[which] is not None and len(sessions - {(0, minute)}) >= limits[which]:
                    return False
        return True

    def end_of_horizon(self):
        kind, days, business = self.horizon
        today = self.today(self.now)
        if kind == "rolling":
            last = today
            while days:
                last += timedelta(days=1)
                days -= not business or last.isoweekday() < 6
            return self.end(last)
        if not days:
            return self.begin(today)
        available = set()
        for minute in range(self.now, self.to + DAY):
            day = self.date_of(minute)
            if day not in available and self.is_start(minute):
                available.add(day)
        # Where dates overlap, a later one can have a start before an earlier one has.
        counted = [d for d in available if d >= today and (not business or d.isoweekday() < 6)]
        if len(counted) < days:
            return self.high  # Too far ahead to matter here.
        return self.end(sorted(counted)[days - 1])

    def answer(self):
        begin = self.__dict__["from"]
        if self.horizon is not None:
            self.until = self.end_of_horizon()
        slots = [m for m in range(begin, self.to - self.duration + 1) if self.is_start(m)]
        opened = []
        for minute in range(begin, self.to):
            if not self.open[minute - self.low]:
                continue
            if opened and opened[-1][1] == minute:
                opened[-1][1] = minute + 1
            else:
                opened.append([minute, minute + 1])
        zones = [self.tz] + [ZoneInfo(name) for _, _, name in self.travel]
        probes = range(self.low, self.high, 30)
        offsets = [
            int(self.local(m, zone).utcoffset().total_seconds()) for zone in zones for m in probes
        ]
        return {"slots": slots, "open": opened, "offsets": offsets}


def main():
    print(json.dumps({"zones": sorted(available_timezones())}), flush=True)
    for line in sys.stdin:
        print(json.dumps(Case(json.loads(line)).answer()), flush=True)


if __name__ == "__main__":
    main()
