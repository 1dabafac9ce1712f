// Pairs that chat. Each virtual user is both sides of one conversation, so that one clock measures
// sending and arrival. Checked: every message arrives exactly once and in order, also at a side
// that loses its socket half-way and resumes, and a message that is sent twice is stored once.

import { check } from 'k6';
import { Counter } from 'k6/metrics';
import exec from 'k6/execution';

import { call, data, seekers } from './lib/api.js';
import { number, seconds, SLACK, TREND_STATS } from './lib/config.js';
import { deliveryMs, HubSocket, pause, toTheEnd, until } from './lib/socket.js';
import { summaryOf } from './lib/summary.js';

const VUS = number('VUS', 20, 1, 2000);
/** Messages per second from each side. A socket may send 50 commands a second. */
const RATE = number('RATE', 2, 1, 40);
const DURATION = seconds('DURATION', '30s');
/** Every so many messages are sent twice with the same clientId. */
const DUPLICATE_EVERY = number('DUPLICATE_EVERY', 10, 2, 1000000);
/** How long messages may still be under way after the last one was sent. */
const DRAIN = 20;

const sent = new Counter('messages_sent');
const received = new Counter('messages_received');
const resumed = new Counter('ws_resumed');

export const options = {
  scenarios: {
    chat: { executor: 'per-vu-iterations', vus: VUS, iterations: 1, maxDuration: `${DURATION + DRAIN + 90}s` },
  },
  summaryTrendStats: TREND_STATS,
  setupTimeout: '10m',
  thresholds: {
    checks: ['rate==1.0'],
    finished: ['rate==1.0'],
    http_req_failed: ['rate==0'],
    messages_sent: ['count>0'],
    ws_resumed: [`count==${VUS}`],
    ws_dropped: ['count==0'],
    'ws_ack_ms{op:message:send}': [`p(95)<${500 * SLACK}`],
    ws_delivery_ms: [`p(95)<${500 * SLACK}`],
  },
};

export function setup() {
  return { people: seekers('chat-pairs', 2 * VUS, DURATION + DRAIN, true) };
}

/** One person of a pair: the socket, and what has arrived. */
class Side {
  constructor(person, conversation) {
    this.person = person;
    this.conversation = conversation;
    this.channel = `conversation:${conversation}`;
    this.seq = null;
    this.inOrder = true;
    this.arrived = new Map();
    this.sent = 0;
  }

  async open(since) {
    this.socket = await HubSocket.open(this.person.token, since === undefined ? 'header' : 'frame');
    this.socket.on('message:new', (event) => this.heard(event));
    const { seq } = await this.socket.ok('subscribe', { channel: this.channel, since });
    if (since === undefined) {
      this.seq = seq;
    }
  }

  heard({ channel, seq, data: { message } }) {
    if (channel !== this.channel) {
      return;
    }
    const now = Date.now();
    this.inOrder = this.inOrder && seq === this.seq + 1 && message.seq === seq;
    this.seq = seq;
    this.arrived.set(message.content, (this.arrived.get(message.content) || 0) + 1);
    if (message.senderId !== this.person.id) {
      received.add(1);
      // What was missed in a pause is told afterwards; that is no delay of the hub.
      if (!this.away) {
        deliveryMs.add(now - Number(message.content.split(' ')[2]));
      }
    }
  }

  async say() {
    this.sent += 1;
    const message = {
      conversationId: this.conversation,
      clientId: crypto.randomUUID(),
      type: 'text',
      content: `${this.person.id} ${this.sent} ${Date.now()}`,
    };
    const first = this.socket.ok('message:send', message);
    if (this.sent % DUPLICATE_EVERY === 0) {
      const [one, other] = await Promise.all([first, this.socket.ok('message:send', message)]);
      check(other, { 'the same clientId has the same answer': (o) => JSON.stringify(o) === JSON.stringify(one) });
    }
    await first;
    sent.add(1);
    return message.content;
  }
}

export default function ({ people }) {
  return toTheEnd(async () => {
    const pair = exec.vu.idInTest - 1;
    const [a, b] = [people[2 * pair], people[2 * pair + 1]];
    const opened = data(call('POST', '/v1/conversations', { token: a.token, body: { userId: b.id } }), 200, 201);
    const sides = [new Side(a, opened.id), new Side(b, opened.id)];
    for (const side of sides) {
      await side.open();
    }
    const begun = Date.now() + Math.random() * (1000 / RATE);
    const said = (await Promise.all([talk(sides[0], begun), talk(sides[1], begun), interrupt(sides[1], begun)]))
      .slice(0, 2).flat();
    await until(() => sides.every((side) => side.arrived.size >= said.length), DRAIN * 1000);
    // A message too many would come now.
    await pause(200);
    for (const side of sides) {
      const once = said.every((content) => side.arrived.get(content) === 1);
      check(side, {
        'every message arrived exactly once': () => once && side.arrived.size === said.length,
        'messages arrived in order, without a gap': () => side.inOrder,
      });
      await side.socket.close();
    }
  });
}

/** Sends at the rate for the duration; the contents of what was sent. */
async function talk(side, begun) {
  const saying = [];
  for (let n = 0; n < DURATION * RATE; n += 1) {
    await pause(begun + (n * 1000) / RATE - Date.now());
    while (side.away) {
      await pause(5);
    }
    saying.push(side.say());
  }
  return Promise.all(saying);
}

/** Half-way the side loses its socket, misses something, and resumes from what it has seen. */
async function interrupt(side, begun) {
  await pause(begun + DURATION * 500 - Date.now());
  side.away = true;
  // Its own messages are to be answered first; what the other side says goes on.
  await until(() => side.socket.waiting.size === 0, 5000);
  await side.socket.close();
  await pause(500);
  await side.open(side.seq);
  // What was missed comes right after the answer.
  await pause(100);
  side.away = false;
  resumed.add(1);
}

export const handleSummary = summaryOf('chat', [
  'messages_sent', 'messages_received', 'ws_resumed', 'ws_dropped', 'ws_connect_ms',
  'ws_ack_ms{op:message:send}', 'ws_delivery_ms',
]);
