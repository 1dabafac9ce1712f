// What a run prints at its end, and leaves in load-tests/out/.

const OUT = import.meta.resolve('../out/').replace(/^file:\/\//, '');

/** Makes the handleSummary of the script `name`, which shows these metrics. */
export function summaryOf(name, shown) {
  return (run) => {
    const text = describe(name, run, shown);
    return {
      stdout: text,
      [`${OUT}${name}.txt`]: text,
      [`${OUT}${name}.json`]: JSON.stringify(run, null, 2),
    };
  };
}

function describe(name, run, shown) {
  const lines = ['', `== ${name}: ${(run.state.testRunDurationMs / 1000).toFixed(1)} s`, ''];
  for (const metric of shown) {
    const found = run.metrics[metric];
    lines.push(`  ${metric.padEnd(20)} ${found ? values(found) : 'nothing was measured'}`);
  }
  lines.push('', '  checks');
  for (const c of checks(run.root_group)) {
    lines.push(`    ${c.fails ? 'FAILED' : 'ok    '} ${c.name} (${c.passes} of ${c.passes + c.fails})`);
  }
  lines.push('', '  thresholds');
  let failed = 0;
  for (const [metric, { thresholds = {} }] of Object.entries(run.metrics)) {
    for (const [rule, { ok }] of Object.entries(thresholds)) {
      failed += ok ? 0 : 1;
      lines.push(`    ${ok ? 'ok    ' : 'FAILED'} ${metric}: ${rule}`);
    }
  }
  lines.push('', failed ? `  ${name}: FAILED (${failed} thresholds)` : `  ${name}: ok`, '');
  return `${lines.join('\n')}\n`;
}

function values({ type, values: v }) {
  if (type === 'trend') {
    const stat = (key, word) => `${word} ${v[key] === undefined ? '-' : v[key].toFixed(1)}`;
    return [stat('med', 'p50'), stat('p(95)', 'p95'), stat('p(99)', 'p99'), stat('max', 'max'), 'ms', `(${v.count})`]
      .join('  ');
  }
  if (type === 'rate') {
    return `${(v.rate * 100).toFixed(2)} %  (${v.passes} of ${v.passes + v.fails})`;
  }
  if (type === 'counter') {
    return `${v.count}  (${v.rate.toFixed(1)}/s)`;
  }
  return String(v.value);
}

function checks(group) {
  return [...group.checks, ...group.groups.flatMap(checks)];
}
