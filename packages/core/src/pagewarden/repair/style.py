"""How the HTML report of a repair looks: in light and dark, on a narrow screen and on paper."""

from __future__ import annotations

CSS = """
:root {
  color-scheme: light dark;
  --back: #ffffff; --card: #f5f6f8; --line: #d9dce1; --text: #1b1f24; --dim: #5b6470;
  --good: #10692f; --good-back: #dcf3e2; --warn: #7a4b00; --warn-back: #fdeccb;
  --bad: #a3131c; --bad-back: #fbdfe0; --cell: #c8d3cb; --hurt: #c8202b;
}
@media (prefers-color-scheme: dark) {
  :root {
    --back: #14171b; --card: #1d2127; --line: #353b44; --text: #e8eaed; --dim: #a0a8b3;
    --good: #7ddb98; --good-back: #143822; --warn: #f2c36b; --warn-back: #3d2e0f;
    --bad: #ff9a9f; --bad-back: #4a1a1e; --cell: #3a463e; --hurt: #ff5a64;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--back); color: var(--text);
       font: 16px/1.5 system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
main { max-width: 62rem; margin: 0 auto; padding: 2rem 1.25rem 4rem; }
h1, h2, h3, p, ul, ol, dl, figure { margin: 0; }
h1 { font-size: 2rem; line-height: 1.2; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin-bottom: .6rem; }
h3 { font-size: 1rem; overflow-wrap: anywhere; }
header .path, code, pre { font-family: ui-monospace, "SFMono-Regular", "DejaVu Sans Mono", monospace; font-size: .9em;
                          overflow-wrap: anywhere; }
.dim { color: var(--dim); }
.path { color: var(--dim); }
.lead { font-size: 1.15rem; margin-top: .6rem; overflow-wrap: anywhere; }
.verdicts { margin-top: .8rem; }
.arrow { color: var(--dim); margin: 0 .2rem; }
.badge, .tag { display: inline-block; border-radius: .35rem; padding: 0 .5rem; background: var(--card);
               border: 1px solid var(--line); font-size: .85em; font-weight: 600; }
td .badge, td .tag { white-space: nowrap; }
.good { color: var(--good); } .warn { color: var(--warn); } .bad { color: var(--bad); font-weight: 600; }
.sound.badge, .good.tag { color: var(--good); background: var(--good-back); border-color: transparent; }
.unknown.badge, .warn.tag, .violation.tag { color: var(--warn); background: var(--warn-back);
                                            border-color: transparent; }
.damaged.badge, .damage.tag { color: var(--bad); background: var(--bad-back); border-color: transparent; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(17rem, 1fr)); gap: 1rem; margin: 1.6rem 0; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: .6rem; padding: 1rem; min-width: 0;
        overflow-wrap: anywhere; }
.card h2 { font-size: .85rem; text-transform: uppercase; letter-spacing: .05em; color: var(--dim); }
.card ul { padding-left: 1.1rem; }
section { margin-top: 2.2rem; }
article { border-left: .25rem solid var(--line); padding: .1rem 0 .1rem .9rem; margin-top: 1rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem .9rem; margin-top: .3rem; }
dt { color: var(--dim); } dd { margin: 0; min-width: 0; overflow-wrap: anywhere; }
ul { padding-left: 1.3rem; } .plan { padding-left: 1.5rem; } .plan > li { margin-top: .8rem; overflow-wrap: anywhere; }
pre.command { margin: .4rem 0 0; padding: .6rem .8rem; background: var(--back); border: 1px solid var(--line);
              border-radius: .4rem; white-space: pre-wrap; user-select: all; }
section pre.command { background: var(--card); }
.wide { overflow-x: auto; margin-top: .8rem; }
table { border-collapse: collapse; width: 100%; font-size: .95em; }
th, td { text-align: left; vertical-align: top; padding: .35rem .9rem .35rem 0; border-bottom: 1px solid var(--line);
         overflow-wrap: anywhere; }
td:not(.number) { min-width: 7.5rem; }
pre.command + p { margin-top: .6rem; }
th { color: var(--dim); font-weight: 600; white-space: nowrap; }
.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
figure svg { width: 100%; height: auto; display: block; max-height: 16rem; }
figcaption { color: var(--dim); font-size: .9em; margin-top: .3rem; }
svg .sound { fill: var(--cell); } svg .hurt { fill: var(--hurt); }
svg .some { fill-opacity: .85; } svg .few { fill-opacity: .65; }
.warnings { border-left-color: var(--warn); }
@media (max-width: 34rem) { dl { grid-template-columns: 1fr; } dd { margin-bottom: .3rem; } }
@media print {
  :root { color-scheme: light; --back: #ffffff; --card: #ffffff; --line: #b9bec6; --text: #000000; --dim: #444b55;
          --good: #10692f; --good-back: #ffffff; --warn: #7a4b00; --warn-back: #ffffff; --bad: #a3131c;
          --bad-back: #ffffff; --cell: #d5ddd7; --hurt: #c8202b; }
  body { font-size: 11pt; } main { max-width: none; padding: 0; }
  article, .card, .plan > li, tr, figure { break-inside: avoid; } h2, h3 { break-after: avoid; }
  svg, .badge, .tag { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  .badge, .tag { border-color: currentColor !important; }
  .wide { overflow: visible; } .cards { grid-template-columns: repeat(3, 1fr); }
}
"""
