// REST: one function per need, and accounts.

import http from 'k6/http';

import { BASE_URL } from './config.js';

// A refused slot is an answer, not a failure; nor is an account that an earlier run has opened.
http.setResponseCallback(http.expectedStatuses({ min: 200, max: 299 }, 409));

/** The password of the demo's accounts, and of those that the scripts open. */
const PASSWORD = 'namaste-demo';

/** How many passwords the hub is asked to hash at once: bcrypt keeps a core busy for each. */
const LOGINS_AT_ONCE = 4;

/** Makes a request; `name` stands for the path in the metrics, `more` are further headers. */
export function call(method, path, { token, body, name, more } = {}) {
  const headers = { 'Content-Type': 'application/json', ...more };
  if (token) {
    headers.Authorization = `Bearer ${token}`;
  }
  const tags = { name: `${method} ${name || path}` };
  const payload = body === undefined ? null : JSON.stringify(body);
  return http.request(method, BASE_URL + path, payload, { headers, tags });
}

/** The data of an answer that must have one of these statuses; ends the run's setup otherwise. */
export function data(response, ...statuses) {
  if (!statuses.includes(response.status)) {
    const hint = response.status === 0 ? ` Is a hub running at ${BASE_URL}? (make run)` : '';
    throw new Error(`${response.request.method} ${response.url}: ${response.status} ` +
      `${response.error} ${response.body || ''}${hint}`);
  }
  return response.json('data');
}

/** Logs in one of the demo's accounts. */
export function login(email) {
  const body = { email, password: PASSWORD };
  const response = call('POST', '/v1/auth/login', { body });
  if (response.status === 401) {
    throw new Error(`${email} is not known here: the hub needs its demo data (make run)`);
  }
  return account(data(response, 200));
}

/**
 * `count` seekers of the script `script`: opened by its first run, logged in by later ones. With
 * `inPairs` every second one is a practitioner, to whom a seeker may write. Each is
 * `{id, token}`. Refuses a run of `lasting` seconds that their tokens would not outlive.
 */
export function seekers(script, count, lasting, inPairs = false) {
  const people = [];
  for (let first = 0; first < count; first += LOGINS_AT_ONCE) {
    const numbers = Array.from({ length: Math.min(LOGINS_AT_ONCE, count - first) }, (_, i) => first + i);
    const email = (n) => `${script}-${n}@load.klearkarma.in`;
    const opened = http.batch(numbers.map((n) => post('/v1/auth/register', {
      email: email(n), password: PASSWORD, firstName: 'Load', lastName: `${script} ${n}`,
      userType: inPairs && n % 2 === 1 ? 'practitioner' : 'seeker',
    })));
    const known = numbers.filter((_, i) => opened[i].status === 409);
    const entered = http.batch(known.map((n) => post('/v1/auth/login', { email: email(n), password: PASSWORD })));
    for (const [i, answer] of opened.entries()) {
      const response = answer.status === 409 ? entered[known.indexOf(numbers[i])] : answer;
      people.push(account(data(response, 200, 201)));
    }
  }
  const left = (Math.min(...people.map((p) => p.until)) - Date.now()) / 1000;
  if (left < lasting + 15) {
    throw new Error(`the run takes ${lasting} s, but access tokens are good for ${Math.round(left)} s: ` +
      'shorten it, or start the hub with a longer ACCESS_TOKEN_TTL_SECONDS');
  }
  return people;
}

/** A practitioner of the demo with one of the services: `{id, serviceId}`. */
export function practice(firstName, serviceName) {
  const all = data(call('GET', '/v1/practitioners?limit=100', { name: '/v1/practitioners' }), 200);
  const found = all.find((p) => p.firstName === firstName);
  if (!found) {
    throw new Error(`there is no practitioner ${firstName}: the hub needs its demo data (make run)`);
  }
  const name = '/v1/practitioners/{id}/services';
  const offers = data(call('GET', `/v1/practitioners/${found.id}/services`, { name }), 200);
  const offer = offers.find((o) => o.name === serviceName);
  if (!offer) {
    throw new Error(`${firstName} does not offer ${serviceName}: the hub needs its demo data (make run)`);
  }
  return { id: found.id, serviceId: offer.serviceId };
}

/** The starts that can be booked in the days `from` to `to` from today on. */
export function freeSlots({ id, serviceId }, from, to) {
  const date = (days) => new Date(Date.now() + days * 86400000).toISOString().slice(0, 10);
  const query = `serviceId=${serviceId}&from=${date(from)}&to=${date(to)}`;
  const name = '/v1/practitioners/{id}/availability';
  const found = data(call('GET', `/v1/practitioners/${id}/availability?${query}`, { name }), 200);
  return found.slots.map((slot) => slot.start);
}

/** Asks for a booking; the answer is the caller's to judge. */
export function book(token, { id, serviceId }, startsAt, key) {
  const body = { practitionerId: id, serviceId, startsAt };
  const more = key ? { 'Idempotency-Key': key } : {};
  return call('POST', '/v1/bookings', { token, body, more });
}

/** Cancels a booking. */
export function cancel(token, bookingId) {
  const name = '/v1/bookings/{id}/cancel';
  return call('POST', `/v1/bookings/${bookingId}/cancel`, { token, body: { reason: 'load test' }, name });
}

function post(path, body) {
  const params = { headers: { 'Content-Type': 'application/json' }, tags: { name: `POST ${path}` } };
  return ['POST', BASE_URL + path, JSON.stringify(body), params];
}

function account(tokens) {
  return { id: tokens.user.id, token: tokens.accessToken, until: Date.parse(tokens.expiresAt) };
}
