/// Colours and fonts of the chart, for the page and for the file of its own. Each colour is a
/// variable, so that light and dark differ in one place. Red is for what is broken alone.
pub(crate) const STYLE: &str = "
:root, svg.chart {
  --page: #ffffff; --text: #1f2328; --soft: #59636e; --grid: #e4e8ec; --shade: #f3f5f8;
  --phase: #e6eaef; --phase-odd: #d5dce4; --bad: #cf222e; --good: #1a7f37; --warn: #b65c00;
  --edge: #2f6fde; --consumer: #0f8a83; --bus: #b06a00; --kafka: #8250df; --shard: #3f8f29;
  --haproxy: #4f6b8a; --api: #bf3989; --client: #0a7ea4; --data: #8a6d3b; --clock: #6e7781;
  --line-a: #2f6fde; --line-b: #b65c00; --line-c: #8250df; --line-d: #0f8a83; --line-e: #6e7781;
  color-scheme: light dark;
}
@media (prefers-color-scheme: dark) {
  :root, svg.chart {
    --page: #0f1419; --text: #e6edf3; --soft: #9aa5b1; --grid: #262d35; --shade: #171e26;
    --phase: #27303a; --phase-odd: #36424f; --bad: #ff7b72; --good: #56d364; --warn: #f0a04b;
    --edge: #6ea8fe; --consumer: #45c4bb; --bus: #e3a74f; --kafka: #b794f6; --shard: #7ec86a;
    --haproxy: #9fb8d3; --api: #f285c1; --client: #56c4e6; --data: #d0b17a; --clock: #a8b1bb;
    --line-a: #6ea8fe; --line-b: #f0a04b; --line-c: #b794f6; --line-d: #45c4bb; --line-e: #a8b1bb;
  }
}
.chart text, text { font-family: system-ui, 'Segoe UI', 'DejaVu Sans', Verdana, sans-serif; }
.page { fill: var(--page); }
.title { font-size: 16px; font-weight: 600; fill: var(--good); }
.title.bad { fill: var(--bad); }
.name { font-size: 12px; font-weight: 600; fill: var(--text); }
.about, .lane { font-size: 11px; fill: var(--soft); }
.lane { fill: var(--text); }
.tick { font-size: 10px; fill: var(--soft); }
.grid, .level { stroke: var(--grid); stroke-width: 1; }
.shade { fill: var(--shade); }
.phase { fill: var(--phase); }
.phase.odd { fill: var(--phase-odd); }
.edge { --hue: var(--edge); } .consumer { --hue: var(--consumer); } .bus { --hue: var(--bus); }
.kafka { --hue: var(--kafka); } .shard { --hue: var(--shard); } .haproxy { --hue: var(--haproxy); }
.api { --hue: var(--api); } .client { --hue: var(--client); } .data { --hue: var(--data); }
.clock { --hue: var(--clock); }
.a { --hue: var(--line-a); } .b { --hue: var(--line-b); } .c { --hue: var(--line-c); }
.d { --hue: var(--line-d); } .e { --hue: var(--line-e); }
.bar, .swatch, .fill { fill: var(--hue); }
.bar.vacuous { fill: var(--page); stroke: var(--hue); stroke-width: 1; stroke-dasharray: 2 2; }
.bar.never { stroke: var(--bad); stroke-width: 2; }
.tail { fill: var(--hue); opacity: .45; }
.tail.never { fill: var(--bad); }
.hit { fill: transparent; }
.curve { fill: none; stroke: var(--hue); stroke-width: 1.4; stroke-linecap: round; stroke-linejoin: round; }
.curve.dashed { stroke-dasharray: 4 2.5; }
.lost { fill: var(--warn); }
.full { stroke: var(--good); stroke-width: 1.4; fill: none; }
.broken { fill: var(--bad); }
.broken-line { stroke: var(--bad); stroke-width: 1; stroke-dasharray: 3 3; opacity: .7; pointer-events: none; }
.broken-text { font-size: 11px; fill: var(--bad); font-weight: 600; }
.fine { font-size: 11px; fill: var(--good); }
.tip { outline: none; cursor: default; }
.tip:hover .bar, .tip:focus .bar { stroke: var(--text); stroke-width: 1.5; }
";
