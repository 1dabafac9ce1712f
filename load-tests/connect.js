// Many sockets: they open over a ramp, half with the token on the upgrade, half with it in the first
// frame, follow a calendar, stay, ping, and leave. None may be dropped.

import { check } from 'k6';
import { Counter } from 'k6/metrics';
import exec from 'k6/execution';

import { practice, seekers } from './lib/api.js';
import { number, seconds, SLACK, TREND_STATS } from './lib/config.js';
import { HubSocket, pause, toTheEnd } from './lib/socket.js';
import { summaryOf } from './lib/summary.js';

const CONNECTIONS = number('CONNECTIONS', 500, 1, 50000);
const VUS = number('VUS', Math.min(25, CONNECTIONS), 1, CONNECTIONS);
const PER_USER = number('CONNECTIONS_PER_USER', 10, 1, 1000);
const RAMP = seconds('RAMP', '20s');
const DURATION = seconds('DURATION', '30s');
const PING_EVERY = seconds('PING_EVERY', '10s');

const opened = new Counter('ws_opened');

export const options = {
  scenarios: {
    connect: { executor: 'per-vu-iterations', vus: VUS, iterations: 1, maxDuration: `${RAMP + DURATION + 60}s` },
  },
  summaryTrendStats: TREND_STATS,
  setupTimeout: '10m',
  thresholds: {
    checks: ['rate==1.0'],
    finished: ['rate==1.0'],
    ws_opened: [`count==${CONNECTIONS}`],
    ws_dropped: ['count==0'],
    ws_connect_ms: [`p(95)<${1000 * SLACK}`],
    ws_ack_ms: [`p(95)<${500 * SLACK}`],
  },
};

export function setup() {
  const people = seekers('connect', Math.ceil(CONNECTIONS / PER_USER), RAMP + DURATION);
  return { people, calendar: `calendar:${practice('Arjun', 'Sound bath').id}` };
}

export default function ({ people, calendar }) {
  return toTheEnd(async () => {
    const began = Date.now();
    const mine = [];
    for (let n = exec.vu.idInTest - 1; n < CONNECTIONS; n += VUS) {
      mine.push(stay(n, people[n % people.length], calendar, began));
    }
    await Promise.all(mine);
  });
}

async function stay(n, person, calendar, began) {
  const leave = began + (RAMP + DURATION) * 1000;
  await pause((n / CONNECTIONS) * RAMP * 1000);
  const socket = await HubSocket.open(person.token, n % 2 ? 'frame' : 'header');
  const followed = await socket.ok('subscribe', { channel: calendar });
  check(followed, { 'a calendar comes with its snapshot': (f) => Array.isArray(f.snapshot.busy) });
  opened.add(1);
  while (Date.now() < leave) {
    await pause(Math.min(PING_EVERY * 1000, leave - Date.now()));
    const { heads } = await socket.ok('ping', {});
    check(heads, { 'a ping tells the head of the calendar': (h) => h[calendar] >= followed.seq });
  }
  await socket.close();
}

export const handleSummary = summaryOf('connect', ['ws_opened', 'ws_dropped', 'ws_connect_ms', 'ws_ack_ms']);
