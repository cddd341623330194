'use strict';
// Tooltips of what can be pointed at or focused, and the figures of the second under the pointer.
const plot = document.querySelector('svg.plot');
const tip = document.getElementById('tip');
const span = document.getElementById('span');
const cross = document.getElementById('cross');
const seconds = JSON.parse(document.getElementById('seconds').textContent);

function show(text, x, y) {
  tip.textContent = text;
  tip.hidden = false;
  const box = tip.getBoundingClientRect();
  const left = x + 14 + box.width > innerWidth ? x - 14 - box.width : x + 14;
  const top = y + 16 + box.height > innerHeight ? y - 12 - box.height : y + 16;
  tip.style.left = Math.max(4, left) + 'px';
  tip.style.top = Math.max(4, top) + 'px';
}

function hide() {
  tip.hidden = true;
  span.setAttribute('width', 0);
  cross.setAttribute('visibility', 'hidden');
}

function mark(from, to) {
  span.setAttribute('x', from);
  span.setAttribute('width', Math.max(1, to - from));
}

function ask(group, x, y) {
  mark(Number(group.dataset.from), Number(group.dataset.to));
  show(group.getAttribute('aria-label'), x, y);
}

function ms(us) {
  if (us === null) return '–';
  return us < 1e6 ? (us / 1e3).toFixed(us < 1e4 ? 1 : 0) + ' ms' : (us / 1e6).toFixed(2) + ' s';
}

function second(at) {
  const [attempts, inTime, p50, p99, ordered, repairs, reconnects] = seconds[at];
  const clock = Math.floor(at / 60) + ':' + String(at % 60).padStart(2, '0');
  return clock + '\n' +
    (attempts ? inTime + ' of ' + attempts + ' sends ok within 1 s' : 'no sends') + '\n' +
    'plain joins p50 ' + ms(p50) + ', p99 ' + ms(p99) + '; ordered p99 ' + ms(ordered) + '\n' +
    repairs + ' repairs sampled, ' + reconnects + ' reconnects';
}

plot.addEventListener('pointermove', (event) => {
  const group = event.target.closest('.tip');
  const box = plot.getBoundingClientRect();
  const x = event.clientX - box.left;
  cross.setAttribute('visibility', 'visible');
  cross.setAttribute('x1', x);
  cross.setAttribute('x2', x);
  if (group) {
    ask(group, event.clientX, event.clientY);
    return;
  }
  span.setAttribute('width', 0);
  const at = Math.floor(x / box.width * Number(plot.dataset.endUs) / 1e6);
  if (seconds[at]) show(second(at), event.clientX, event.clientY);
});
plot.addEventListener('pointerleave', hide);
plot.addEventListener('focusin', (event) => {
  const group = event.target.closest('.tip');
  if (!group) return;
  const box = group.getBoundingClientRect();
  ask(group, box.left, box.bottom);
});
plot.addEventListener('focusout', hide);
addEventListener('keydown', (event) => { if (event.key === 'Escape') hide(); });
