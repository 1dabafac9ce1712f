// A socket of the hub: commands are answered by promises, events go to handlers.

import { check } from 'k6';
import { Counter, Rate, Trend } from 'k6/metrics';
import { WebSocket } from 'k6/websockets';

import { WS_URL } from './config.js';

/** From opening a socket to the answer that proves it authenticated. */
export const connectMs = new Trend('ws_connect_ms', true);
/** From a command to its answer; for a message that is after its commit. */
export const ackMs = new Trend('ws_ack_ms', true);
/** From an event's cause to its arrival. */
export const deliveryMs = new Trend('ws_delivery_ms', true);
/** Sockets that the hub, or the network, ended. */
export const dropped = new Counter('ws_dropped');
/** Whether a virtual user came to its end without a surprise. */
export const finished = new Rate('finished');

/** How long an answer may take before it counts as lost. */
const PATIENCE_MS = 30000;

export class HubSocket {
  /** Opens a socket. `how`: `header` (a bearer token on the upgrade) or `frame` (first frame). */
  static async open(token, how = 'header') {
    const began = Date.now();
    const socket = new HubSocket(token, how);
    await socket.opened;
    if (how === 'frame') {
      await socket.ok('auth', { token });
    } else {
      await socket.ok('ping', {});
    }
    connectMs.add(Date.now() - began, { auth: how });
    return socket;
  }

  constructor(token, how) {
    const headers = how === 'header' ? { Authorization: `Bearer ${token}` } : {};
    this.nextId = 1;
    this.waiting = new Map();
    this.handlers = new Map();
    this.leaving = false;
    this.ws = new WebSocket(WS_URL, 'klearkarma.v1', { headers, tags: { name: '/v1/ws' } });
    this.closed = new Promise((resolve) => { this.resolveClosed = resolve; });
    this.opened = new Promise((resolve, reject) => {
      this.ws.onopen = () => resolve();
      this.ws.onerror = (e) => reject(new Error(`socket: ${e.error}`));
    });
    this.ws.onmessage = (message) => this.receive(JSON.parse(message.data));
    this.ws.onclose = (e) => this.end(e.code);
  }

  /** Calls `handler` with each event of this name. */
  on(event, handler) {
    this.handlers.set(event, handler);
  }

  /** Sends a command; the promise is of the whole answer. */
  call(op, data) {
    const id = this.nextId;
    this.nextId += 1;
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.waiting.delete(id);
        reject(new Error(`${op}: no answer within ${PATIENCE_MS / 1000} s`));
      }, PATIENCE_MS);
      this.waiting.set(id, { resolve, reject, timer, op, sent: Date.now() });
      this.ws.send(JSON.stringify({ id, op, data }));
    });
  }

  /** Sends a command that must be answered `ok`; the promise is of its data. */
  async ok(op, data) {
    const answer = await this.call(op, data);
    if (!check(answer, { 'command is answered ok': (a) => a.ok === true })) {
      throw new Error(`${op}: ${JSON.stringify(answer.error)}`);
    }
    return answer.data;
  }

  /** Says goodbye; resolves when the hub has, too. */
  async close() {
    this.leaving = true;
    this.ws.close(1000);
    await this.closed;
  }

  receive(frame) {
    if (frame.event) {
      const handler = this.handlers.get(frame.event);
      if (handler) {
        handler(frame);
      }
      return;
    }
    const waiting = this.waiting.get(frame.id);
    if (waiting) {
      this.waiting.delete(frame.id);
      clearTimeout(waiting.timer);
      ackMs.add(Date.now() - waiting.sent, { op: waiting.op });
      waiting.resolve(frame);
    }
  }

  end(code) {
    if (!this.leaving) {
      dropped.add(1);
      console.error(`a socket was closed with ${code}`);
    }
    for (const { reject, timer, op } of this.waiting.values()) {
      clearTimeout(timer);
      reject(new Error(`${op}: the socket was closed with ${code}`));
    }
    this.waiting.clear();
    this.resolveClosed(code);
  }
}

/** Resolves after so many milliseconds, while sockets go on. */
export function pause(ms) {
  return new Promise((resolve) => { setTimeout(resolve, Math.max(0, ms)); });
}

/** Waits until `condition` holds, at most `ms`; tells whether it does. */
export async function until(condition, ms) {
  const end = Date.now() + ms;
  while (!condition() && Date.now() < end) {
    await pause(20);
  }
  return condition();
}

/** Runs the body of a virtual user. What it throws makes the run fail instead of being lost. */
export async function toTheEnd(body) {
  try {
    await body();
    finished.add(true);
  } catch (e) {
    finished.add(false);
    console.error(e.stack || e);
  }
}
