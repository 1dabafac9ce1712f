// What a client knows of a calendar: the busy time of its snapshot, and the changes after it.

export class Calendar {
  constructor(version, busy) {
    this.version = version;
    this.busy = busy.map(parse);
  }

  /** Applies what one `availability:changed` tells. */
  apply(version, changes) {
    this.version = version;
    for (const change of changes) {
      const { start, end } = parse(change);
      this.busy = this.busy.flatMap((b) => [
        { start: b.start, end: Math.min(b.end, start) },
        { start: Math.max(b.start, end), end: b.end },
      ]).filter((b) => b.start < b.end);
      if (change.state === 'busy') {
        this.busy.push({ start, end });
      }
    }
  }

  /** Whether this is the busy time of a fresh snapshot, which begins at `from`. */
  equals(busy, from) {
    const since = Date.parse(from);
    return text(this.busy, since) === text(busy.map(parse), since);
  }
}

function parse({ start, end }) {
  return { start: Date.parse(start), end: Date.parse(end) };
}

/** The union of the intervals, cut at `since`, as one text. */
function text(intervals, since) {
  const union = [];
  for (const { start, end } of [...intervals].sort((one, other) => one.start - other.start)) {
    const last = union[union.length - 1];
    if (last && start <= last.end) {
      last.end = Math.max(last.end, end);
    } else {
      union.push({ start, end });
    }
  }
  return union.filter((i) => i.end > since).map((i) => `${Math.max(i.start, since)}-${i.end}`).join();
}
