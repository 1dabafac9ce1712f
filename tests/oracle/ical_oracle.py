"""What other people's code makes of iCalendar: the PyPI packages icalendar and
recurring-ical-events. One JSON object per line in, one per line out.

{"op": "parse", "text"} -> the calendar's properties, its events, and what is wrong with the
    octets. Times are resolved by the VTIMEZONE of the file itself, not by its name.
{"op": "expand", "text", "zone", "from", "until"} -> [[start, end], ...] of the events that keep
    busy, in seconds since 1970; dates and times without a zone are in `zone`.
"""

import datetime as dt
import json
import sys
import zoneinfo

import icalendar
import recurring_ical_events
from icalendar.timezone import TZP

UTC = dt.timezone.utc


def octets(text):
    """What is wrong with the lines: RFC 5545 section 3.1."""
    raw = text.encode()
    lines = raw.split(b"\r\n")
    problems = [] if raw.endswith(b"\r\n") else ["does not end with CRLF"]
    problems += [f"bare CR or LF: {line!r}" for line in lines if b"\r" in line or b"\n" in line]
    problems += [f"longer than 75 octets: {line!r}" for line in lines if len(line) > 75]
    for line in lines:
        line.decode()  # a character must not be torn apart
    return problems


def own_zones(calendar):
    zones = {}
    for component in calendar.walk("VTIMEZONE"):
        zones[str(component["TZID"])] = component.to_tz(TZP("zoneinfo"), lookup_tzid=False)
    return zones


def instant(prop, zones):
    """Seconds since 1970 of a DATE-TIME property, by the file's own zones."""
    value, tzid = prop.dt, prop.params.get("TZID")
    if tzid is not None and tzid != "UTC":
        value = value.replace(tzinfo=zones[tzid])
    return int(value.timestamp())


def address(prop):
    params = {name.lower(): str(value) for name, value in prop.params.items()}
    return {"address": str(prop), **params}


def several(event, name):
    value = event.get(name, [])
    return value if isinstance(value, list) else [value]


def parse(case):
    calendar = icalendar.Calendar.from_ical(case["text"])
    zones = own_zones(calendar)
    events = []
    for event in calendar.walk("VEVENT"):
        text = {
            name.lower(): str(event[name])
            for name in ("UID", "SUMMARY", "STATUS", "TRANSP", "CLASS", "DESCRIPTION")
            if name in event
        }
        events.append({
            **text,
            "sequence": int(event["SEQUENCE"]),
            "start": instant(event["DTSTART"], zones),
            "end": instant(event["DTEND"], zones),
            "stamp": instant(event["DTSTAMP"], zones),
            "tzid": event["DTSTART"].params.get("TZID"),
            "local": event["DTSTART"].dt.strftime("%Y-%m-%dT%H:%M:%S"),
            "organizer": address(event["ORGANIZER"]),
            "attendees": [address(a) for a in several(event, "ATTENDEE")],
            "properties": sorted(set(event.keys())),
            "errors": [str(e) for e in event.errors],
        })
    return {
        "method": str(calendar["METHOD"]),
        "version": str(calendar["VERSION"]),
        "prodid": str(calendar["PRODID"]),
        "zones": sorted(zones),
        "events": events,
        "octets": octets(case["text"]),
        "errors": [str(e) for e in calendar.errors],
    }


def seconds(value, zone):
    if not isinstance(value, dt.datetime):
        value = dt.datetime.combine(value, dt.time())
    if value.tzinfo is None:
        value = value.replace(tzinfo=zone)
    # An aware value says what its clock shows; through UTC a time in a gap becomes the right one.
    return int(value.astimezone(UTC).timestamp())


def expand(case):
    zone = zoneinfo.ZoneInfo(case["zone"])
    calendar = icalendar.Calendar.from_ical(case["text"])
    day = dt.timedelta(days=2)
    start = dt.datetime.fromtimestamp(case["from"], UTC) - day
    end = dt.datetime.fromtimestamp(case["until"], UTC) + day
    busy = []
    for event in recurring_ical_events.of(calendar).between(start, end):
        cancelled = str(event.get("STATUS", "")).upper() == "CANCELLED"
        transparent = str(event.get("TRANSP", "")).upper() == "TRANSPARENT"
        if not cancelled and not transparent:
            busy.append([seconds(event.start, zone), seconds(event.end, zone)])
    return sorted(busy)


def main():
    print(json.dumps({"zones": sorted(zoneinfo.available_timezones())}), flush=True)
    for line in sys.stdin:
        case = json.loads(line)
        answer = {"parse": parse, "expand": expand}[case["op"]](case)
        print(json.dumps(answer), flush=True)


main()
