// What the scripts can be told, from the environment. load-tests/README.md has the table.

/** The text of a variable; an empty one counts as not set. */
export function text(name, fallback) {
  return __ENV[name] || fallback;
}

/** A whole number within bounds; anything else ends the run before it begins. */
export function number(name, fallback, min, max) {
  const value = Number(text(name, fallback));
  if (!Number.isInteger(value) || value < min || value > max) {
    throw new Error(`${name} must be a whole number from ${min} to ${max}`);
  }
  return value;
}

/** Seconds, from `90`, `90s`, `1m30s` or `1h`. */
export function seconds(name, fallback) {
  const parts = /^(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s?)?$/.exec(text(name, fallback));
  const total = parts && Number(parts[1] || 0) * 3600 + Number(parts[2] || 0) * 60 + Number(parts[3] || 0);
  if (!total) {
    throw new Error(`${name} must be a duration such as 30s or 2m`);
  }
  return total;
}

/** Where the hub is. Only this machine, unless ALLOW_REMOTE=1: this is a load generator. */
export const BASE_URL = baseUrl();

/** Where its sockets are. */
export const WS_URL = `${BASE_URL.replace(/^http/, 'ws')}/v1/ws`;

/** Allows more time in every latency threshold, for slow machines: 2 doubles the limits. */
export const SLACK = number('SLACK', 1, 1, 100);

/** Percentiles that the summary shows. */
export const TREND_STATS = ['min', 'avg', 'med', 'p(95)', 'p(99)', 'max', 'count'];

function baseUrl() {
  const url = text('BASE_URL', 'http://127.0.0.1:8080').replace(/\/+$/, '');
  const parts = /^https?:\/\/(\[[^\]]+\]|[^/:]+)(:\d+)?$/.exec(url);
  if (!parts) {
    throw new Error('BASE_URL must be like http://127.0.0.1:8080, without a path');
  }
  const loopback = /^(localhost|127(\.\d{1,3}){3}|\[::1\])$/.test(parts[1]);
  if (!loopback && __ENV.ALLOW_REMOTE !== '1') {
    throw new Error(`${url} is not this machine. If you may load it, say so: ALLOW_REMOTE=1`);
  }
  return url;
}
