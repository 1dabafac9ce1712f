// Everybody wants the same slots at the same moments. Checked: each slot has exactly one winner, all
// others hear `slot_taken`, nobody a 5xx, and the winner who asks again with the same key hears the
// same. The bookings are cancelled at the end.

import { check, sleep } from 'k6';
import { Counter } from 'k6/metrics';
import exec from 'k6/execution';

import { book, call, cancel, data, freeSlots, login, practice, seekers } from './lib/api.js';
import { number, SLACK, TREND_STATS } from './lib/config.js';
import { summaryOf } from './lib/summary.js';

const VUS = number('VUS', 20, 2, 2000);
/** How many slots are fought over, one after the other. */
const SLOTS = number('SLOTS', 60, 1, 1000);
/** Milliseconds between two of them. */
const ROUND_MS = number('ROUND_MS', 250, 1, 60000);
const LASTING = Math.ceil((SLOTS * ROUND_MS) / 1000);

const won = new Counter('bookings_won');
const refused = new Counter('bookings_refused');

export const options = {
  scenarios: {
    book: { executor: 'per-vu-iterations', vus: VUS, iterations: 1, maxDuration: `${LASTING + 120}s` },
  },
  summaryTrendStats: TREND_STATS,
  setupTimeout: '10m',
  teardownTimeout: '5m',
  thresholds: {
    checks: ['rate==1.0'],
    http_req_failed: ['rate==0'],
    bookings_won: [`count==${SLOTS}`],
    bookings_refused: [`count==${SLOTS * (VUS - 1)}`],
    'http_req_duration{name:POST /v1/bookings}': [`p(95)<${1500 * SLACK}`],
  },
};

export function setup() {
  const people = seekers('booking', VUS, LASTING + 60);
  const where = practice('Arjun', 'Sound bath');
  const slots = freeSlots(where, 5, 48).slice(0, SLOTS);
  if (slots.length < SLOTS) {
    throw new Error(`only ${slots.length} of ${SLOTS} slots are free`);
  }
  return { people, where, slots, starts: Date.now() + 2000 };
}

export default function ({ people, where, slots, starts }) {
  const { token } = people[exec.vu.idInTest - 1];
  slots.forEach((slot, n) => {
    sleep(Math.max(0, starts + n * ROUND_MS - Date.now()) / 1000);
    const key = crypto.randomUUID();
    const answer = book(token, where, slot, key);
    const fair = check(answer, {
      'a slot is won or taken': (r) => r.status === 201 || (r.status === 409 && r.json('error.code') === 'slot_taken'),
    });
    if (!fair) {
      console.error(`${answer.status} ${answer.error} ${answer.body}`);
    } else if (answer.status === 409) {
      refused.add(1);
    } else {
      won.add(1);
      const again = book(token, where, slot, key);
      check(again, {
        'the same key has the same answer': (r) => r.status === 201 && r.json('data.id') === answer.json('data.id'),
      });
    }
  });
}

/** Looks at the calendar through its owner's eyes, and clears it. */
export function teardown({ slots }) {
  const { token } = login('arjun@demo.klearkarma.in');
  const winners = new Map(slots.map((slot) => [Date.parse(slot), []]));
  for (let page = 1, pages = 1; page <= pages; page += 1) {
    const path = `/v1/bookings?status=confirmed&limit=100&page=${page}`;
    const response = call('GET', path, { token, name: '/v1/bookings' });
    for (const booking of data(response, 200)) {
      const winner = winners.get(Date.parse(booking.scheduledAt));
      if (winner) {
        winner.push(booking.id);
      }
    }
    pages = response.json('meta.pagination.totalPages');
  }
  for (const ids of winners.values()) {
    check(ids, { 'a slot has exactly one booking': (found) => found.length === 1 });
    for (const id of ids) {
      check(cancel(token, id), { 'a booking is cancelled': (r) => r.status === 200 });
    }
  }
}

export const handleSummary = summaryOf('booking', [
  'bookings_won', 'bookings_refused', 'http_req_duration{name:POST /v1/bookings}',
]);
