// A line that moves: SVG, drawn by attributes alone.

import { niceTop } from './board.js';
import { countText, svg } from './dom.js';

const WIDTH = 600;
const HEIGHT = 150;
const TOP = 10;
const BOTTOM = 130;
const LEFT = 2;
const RIGHT = 598;

export class Chart {
  /** @param {string} name what it shows */
  constructor(name) {
    this.name = name;
    this.area = svg('path', { class: 'area' });
    this.path = svg('path', { class: 'line' });
    this.dot = svg('circle', { class: 'dot', r: 4 });
    this.topText = svg('text', { class: 'axis', x: LEFT + 4, y: TOP + 13 });
    const line = (y) => svg('line', { class: 'rule', x1: LEFT, x2: RIGHT, y1: y, y2: y });
    const text = (x, anchor, words) => svg('text', { class: 'axis', x, y: HEIGHT - 4, 'text-anchor': anchor }, words);
    this.element = svg(
      'svg',
      { class: 'chart', viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: 'img' },
      line(TOP),
      line((TOP + BOTTOM) / 2),
      line(BOTTOM),
      this.area,
      this.path,
      this.dot,
      this.topText,
      text(LEFT + 4, 'start', '2 min ago'),
      text(RIGHT - 4, 'end', 'now'),
    );
  }

  /** @param {{x: number, y: number}[][]} runs @param {number} now the value of this moment */
  draw(runs, now) {
    const most = runs.flat().reduce((top, { y }) => Math.max(top, y), now);
    const top = niceTop(most);
    const x = (share) => LEFT + share * (RIGHT - LEFT);
    const y = (value) => BOTTOM - (value / top) * (BOTTOM - TOP);
    const spell = (point) => `${x(point.x).toFixed(1)} ${y(point.y).toFixed(1)}`;
    const lines = runs.map((run) => `M${run.map(spell).join('L')}`);
    const areas = runs.map(
      (run) => `M${x(run[0].x).toFixed(1)} ${BOTTOM}L${run.map(spell).join('L')}L${x(run.at(-1).x).toFixed(1)} ${BOTTOM}Z`,
    );
    this.path.setAttribute('d', lines.join(''));
    this.area.setAttribute('d', areas.join(''));
    const last = runs.at(-1)?.at(-1);
    this.dot.setAttribute('cx', last ? x(last.x).toFixed(1) : '-10');
    this.dot.setAttribute('cy', last ? y(last.y).toFixed(1) : '-10');
    this.topText.textContent = countText(top);
    this.element.setAttribute(
      'aria-label',
      `${this.name} over the last two minutes: now ${countText(now)}, highest ${countText(most)}`,
    );
  }
}

/** A bar of a table: what share of `most` it is. */
export function bar(value, most) {
  const share = most > 0 ? Math.min(1, value / most) : 0;
  return svg(
    'svg',
    { class: 'bar', viewBox: '0 0 100 6', preserveAspectRatio: 'none', 'aria-hidden': 'true' },
    svg('rect', { class: 'rail', width: 100, height: 6, rx: 1 }),
    svg('rect', { class: 'fill', width: (share * 100).toFixed(1), height: 6, rx: 1 }),
  );
}
