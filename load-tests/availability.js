// Many watchers of one calendar while others book and cancel in it. Measured: how long after its
// commit a change arrives. Checked: changes come without a gap, and what a watcher has put together
// from its first snapshot and the changes equals a fresh snapshot.

import { check } from 'k6';
import { Counter } from 'k6/metrics';
import exec from 'k6/execution';

import { book, cancel, freeSlots, practice, seekers } from './lib/api.js';
import { number, seconds, SLACK, TREND_STATS } from './lib/config.js';
import { Calendar } from './lib/calendar.js';
import { deliveryMs, HubSocket, pause, toTheEnd, until } from './lib/socket.js';
import { summaryOf } from './lib/summary.js';

const WATCHERS = number('WATCHERS', 200, 1, 20000);
const VUS = number('VUS', Math.min(10, WATCHERS), 1, WATCHERS);
const PER_USER = number('CONNECTIONS_PER_USER', 10, 1, 1000);
/** Bookings per second, each cancelled at once: twice as many changes. */
const RATE = number('RATE', 5, 1, 500);
const DURATION = seconds('DURATION', '30s');
/** Time to open the sockets, before the first booking. */
const RAMP = seconds('RAMP', '5s');
/** Time for the last changes to arrive. */
const DRAIN = 20;
const BOOKERS = 8;

const told = new Counter('changes_received');
const made = new Counter('changes_made');

export const options = {
  scenarios: {
    watch: {
      executor: 'per-vu-iterations', exec: 'watch', vus: VUS, iterations: 1,
      maxDuration: `${RAMP + DURATION + DRAIN + 60}s`,
    },
    book: {
      executor: 'constant-arrival-rate', exec: 'bookAndCancel', rate: RATE, duration: `${DURATION}s`,
      startTime: `${RAMP}s`, preAllocatedVUs: BOOKERS, maxVUs: 10 * BOOKERS, gracefulStop: '15s',
    },
  },
  summaryTrendStats: TREND_STATS,
  setupTimeout: '10m',
  thresholds: {
    checks: ['rate==1.0'],
    finished: ['rate==1.0'],
    http_req_failed: ['rate==0'],
    dropped_iterations: [`count<=${Math.ceil(RATE * DURATION * 0.05)}`],
    changes_made: ['count>0'],
    changes_received: ['count>0'],
    ws_dropped: ['count==0'],
    ws_delivery_ms: [`p(95)<${500 * SLACK}`],
    'http_req_duration{name:POST /v1/bookings}': [`p(95)<${1000 * SLACK}`],
  },
};

export function setup() {
  const watchers = Math.ceil(WATCHERS / PER_USER);
  const people = seekers('availability', watchers + BOOKERS, RAMP + DURATION + DRAIN);
  const where = practice('Arjun', 'Sound bath');
  // Not the days that booking.js uses, so that both can run at once.
  const slots = freeSlots(where, 50, 85);
  if (slots.length < 2 * RATE) {
    throw new Error(`only ${slots.length} slots are free`);
  }
  return { watchers: people.slice(0, watchers), bookers: people.slice(watchers), where, slots, began: Date.now() };
}

export function watch({ watchers, where, began }) {
  return toTheEnd(async () => {
    const mine = [];
    for (let n = exec.scenario.iterationInTest; n < WATCHERS; n += VUS) {
      mine.push(follow(n, watchers[n % watchers.length], `calendar:${where.id}`, began));
    }
    await Promise.all(mine);
  });
}

async function follow(n, person, channel, began) {
  await pause((n / WATCHERS) * RAMP * 800);
  const socket = await HubSocket.open(person.token, n % 2 ? 'frame' : 'header');
  let [calendar, dense] = [null, true];
  const early = [];
  const hear = (event) => {
    dense = dense && event.seq === calendar.version + 1;
    calendar.apply(event.seq, event.data.changes);
  };
  socket.on('availability:changed', (event) => {
    // The clocks of hub and script are the same, on one machine.
    deliveryMs.add(Math.max(0, Date.now() - Date.parse(event.at)));
    told.add(1);
    if (calendar) {
      hear(event);
    } else {
      early.push(event);
    }
  });
  const { seq, snapshot } = await socket.ok('subscribe', { channel });
  calendar = new Calendar(seq, snapshot.busy);
  early.forEach(hear);

  await pause(began + (RAMP + DURATION + 2) * 1000 - Date.now());
  const fresh = await freshSnapshot(person, channel);
  await until(() => calendar.version >= fresh.seq, DRAIN * 1000);
  check(calendar, {
    'changes come without a gap': () => dense,
    'snapshot and changes equal a fresh snapshot': (c) =>
      c.version === fresh.seq && c.equals(fresh.snapshot.busy, fresh.snapshot.from),
  });
  await socket.close();
}

async function freshSnapshot(person, channel) {
  const socket = await HubSocket.open(person.token);
  const opening = await socket.ok('subscribe', { channel });
  await socket.close();
  return opening;
}

export function bookAndCancel({ bookers, where, slots }) {
  const n = exec.scenario.iterationInTest;
  const { token } = bookers[n % bookers.length];
  const booked = book(token, where, slots[n % slots.length]);
  if (!check(booked, { 'a free slot is booked': (r) => r.status === 201 })) {
    console.error(`${booked.status} ${booked.body}`);
    return;
  }
  made.add(1);
  const gone = cancel(token, booked.json('data.id'));
  if (check(gone, { 'a booking is cancelled': (r) => r.status === 200 })) {
    made.add(1);
  }
}

export const handleSummary = summaryOf('availability', [
  'changes_made', 'changes_received', 'ws_dropped', 'ws_connect_ms', 'ws_delivery_ms',
  'http_req_duration{name:POST /v1/bookings}',
]);
